/* Inspects the same gray frame a few times, as a camera loop would.
 *
 *     cc inspect.c $(pkg-config --cflags --libs hotad) -o inspect
 *     ./inspect MODEL FRAME.pgm
 */
#include <hotad.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REGIONS 8

static int failed(const char *what) {
    fprintf(stderr, "%s: %s\n", what, hotad_last_error());
    return 2;
}

/* Reads a binary PGM of 8 bits ("P5"). */
static unsigned char *read_pgm(const char *path, size_t *width, size_t *height) {
    FILE *file = fopen(path, "rb");
    unsigned char *pixels = NULL;
    if (file && fscanf(file, "P5 %zu %zu 255", width, height) == 2 && fgetc(file) != EOF && *width > 0 && *width < 65536 &&
        *height > 0 && *height < 65536) {
        pixels = malloc(*width * *height);
        if (pixels && fread(pixels, 1, *width * *height, file) != *width * *height) {
            free(pixels);
            pixels = NULL;
        }
    }
    if (file) fclose(file);
    return pixels;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: inspect MODEL FRAME.pgm\n");
        return 2;
    }
    size_t width = 0, height = 0;
    unsigned char *pixels = read_pgm(argv[2], &width, &height);
    if (!pixels) {
        fprintf(stderr, "%s: no PGM file of 8 bits\n", argv[2]);
        return 2;
    }

    hotad_options options;
    hotad_options_init(&options, sizeof options);
    options.device = "cpu";
    hotad_inspector inspector;
    if (hotad_open(argv[1], &options, &inspector) != HOTAD_OK) return failed("hotad_open");
    if (hotad_warm_up(inspector, height, width, HOTAD_GRAY8) != HOTAD_OK) return failed("hotad_warm_up");

    hotad_frame frame = {.size = sizeof frame,
                         .data = pixels,
                         .data_size = width * height,
                         .width = width,
                         .height = height,
                         .stride = width,
                         .format = HOTAD_GRAY8};
    hotad_region regions[REGIONS];
    hotad_verdict verdict;
    memset(&verdict, 0, sizeof verdict);
    verdict.size = sizeof verdict;
    verdict.regions = regions;
    verdict.region_capacity = REGIONS;

    static const char *const labels[] = {"normal", "anomaly", "undecided"};
    for (int i = 0; i < 3; i++) {
        if (hotad_inspect(inspector, &frame, &verdict) != HOTAD_OK) return failed("hotad_inspect");
        printf("%s score %.9g threshold %.9g regions %zu\n", labels[verdict.label], verdict.score, verdict.image_threshold,
               verdict.region_count);
        fprintf(stderr, "%.3f ms\n",
                (double)(verdict.wait_ns + verdict.preprocess_ns + verdict.score_ns + verdict.verdict_ns) / 1e6);
    }
    for (size_t i = 0; i < verdict.region_count; i++)
        printf("region %u %u %u %u peak %.9g\n", regions[i].left, regions[i].top, regions[i].width, regions[i].height,
               regions[i].peak);
    hotad_close(inspector);
    free(pixels);
    return verdict.label == HOTAD_ANOMALY;
}
