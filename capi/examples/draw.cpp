// Inspects a gray frame and writes it in colour, its anomaly map laid over in red and each region framed in yellow.
//
//     c++ -std=c++17 draw.cpp $(pkg-config --cflags --libs hotad) -o draw
//     ./draw MODEL FRAME.pgm OUT.ppm
#include <hotad.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

void check(hotad_status status) {
    if (status != HOTAD_OK) throw std::runtime_error(hotad_last_error());
}

/// An inspector that closes itself.
class Inspector {
  public:
    Inspector(const char *model, const hotad_options &options) { check(hotad_open(model, &options, &handle_)); }
    ~Inspector() { hotad_close(handle_); }
    Inspector(const Inspector &) = delete;
    Inspector &operator=(const Inspector &) = delete;
    hotad_inspector get() const { return handle_; }

  private:
    hotad_inspector handle_ = 0;
};

struct Gray {
    std::size_t width = 0, height = 0;
    std::vector<std::uint8_t> pixels;
};

Gray read_pgm(const char *path) {
    std::ifstream file(path, std::ios::binary);
    std::string magic;
    unsigned most = 0;
    Gray image;
    file >> magic >> image.width >> image.height >> most;
    file.get();
    if (!file || magic != "P5" || most != 255 || image.width > 65535 || image.height > 65535)
        throw std::runtime_error(std::string(path) + ": no PGM file of 8 bits");
    image.pixels.resize(image.width * image.height);
    file.read(reinterpret_cast<char *>(image.pixels.data()), static_cast<std::streamsize>(image.pixels.size()));
    if (!file) throw std::runtime_error(std::string(path) + ": cut off");
    return image;
}

void draw(const char *model, const char *from, const char *to) {
    const Gray image = read_pgm(from);
    hotad_options options;
    check(hotad_options_init(&options, sizeof options));
    options.device = "cpu";
    options.map = HOTAD_MAP_FRAME;
    const Inspector inspector(model, options);

    hotad_frame frame{};
    frame.size = sizeof frame;
    frame.data = image.pixels.data();
    frame.data_size = image.pixels.size();
    frame.width = frame.stride = image.width;
    frame.height = image.height;
    frame.format = HOTAD_GRAY8;
    std::vector<hotad_region> regions(16);
    std::vector<float> map(image.pixels.size());
    hotad_verdict verdict{};
    verdict.size = sizeof verdict;
    verdict.regions = regions.data();
    verdict.region_capacity = regions.size();
    verdict.map = map.data();
    verdict.map_capacity = map.size();
    check(hotad_inspect(inspector.get(), &frame, &verdict));

    std::vector<std::uint8_t> rgb(3 * map.size());
    for (std::size_t i = 0; i < map.size(); ++i) {
        const float heat = std::clamp(map[i] / (2 * verdict.pixel_threshold), 0.0f, 1.0f);
        rgb[3 * i] = static_cast<std::uint8_t>(image.pixels[i] + heat * (255 - image.pixels[i]));
        rgb[3 * i + 1] = rgb[3 * i + 2] = static_cast<std::uint8_t>(image.pixels[i] * (1 - heat));
    }
    const auto yellow = [&](std::size_t x, std::size_t y) {
        rgb[3 * (y * image.width + x)] = rgb[3 * (y * image.width + x) + 1] = 255;
        rgb[3 * (y * image.width + x) + 2] = 0;
    };
    for (std::size_t i = 0; i < verdict.region_count; ++i) {
        const hotad_region &r = regions[i];
        for (std::size_t x = r.left; x < r.left + r.width; ++x) yellow(x, r.top), yellow(x, r.top + r.height - 1);
        for (std::size_t y = r.top; y < r.top + r.height; ++y) yellow(r.left, y), yellow(r.left + r.width - 1, y);
    }
    std::ofstream file(to, std::ios::binary);
    file << "P6 " << image.width << ' ' << image.height << " 255\n";
    file.write(reinterpret_cast<const char *>(rgb.data()), static_cast<std::streamsize>(rgb.size()));
    std::cout << verdict.region_count << " regions, score " << verdict.score << '\n';
}

} // namespace

int main(int argc, char **argv) {
    if (argc != 4) {
        std::cerr << "usage: draw MODEL FRAME.pgm OUT.ppm\n";
        return 2;
    }
    try {
        draw(argv[1], argv[2], argv[3]);
    } catch (const std::exception &error) {
        std::cerr << error.what() << '\n';
        return 2;
    }
}
