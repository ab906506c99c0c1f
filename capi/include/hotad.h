/* hotad: image anomaly detection, for C and C++. docs/inspector.md has an introduction.
 *
 * Written by cbindgen from capi/src. MIT OR Apache-2.0. */

#ifndef HOTAD_H
#define HOTAD_H

#include <stddef.h>
#include <stdint.h>

/**
 * How a call ended. What it says in words: `hotad_last_error`.
 */
typedef enum {
  /**
   * Done.
   */
  HOTAD_OK = 0,
  /**
   * An argument or option is null, out of range, unknown, too small, of another version, or names a file that cannot be used.
   */
  HOTAD_ERROR_ARGUMENT = 1,
  /**
   * A frame whose pixels do not lie in its buffer, that has too many of them, or that cannot be scored.
   */
  HOTAD_ERROR_FRAME = 2,
  /**
   * No model: missing, damaged, of a newer format, not signed as it has to be.
   */
  HOTAD_ERROR_MODEL = 3,
  /**
   * A device that is not there, does not have the precision, is out of memory or lost.
   */
  HOTAD_ERROR_DEVICE = 4,
  /**
   * The inspector was closed, or never opened.
   */
  HOTAD_ERROR_CLOSED = 5,
  /**
   * Another thread uses the inspector.
   */
  HOTAD_ERROR_BUSY = 6,
  /**
   * An error of this library.
   */
  HOTAD_ERROR_INTERNAL = 7,
} hotad_status;

/**
 * How the samples of a frame lie in memory.
 */
typedef enum {
  /**
   * One 8-bit sample a pixel.
   */
  HOTAD_GRAY8 = 0,
  /**
   * One 16-bit sample a pixel, in the byte order of this machine.
   */
  HOTAD_GRAY16 = 1,
  /**
   * Red, green, blue, 8 bits each.
   */
  HOTAD_RGB8 = 2,
  /**
   * Blue, green, red, 8 bits each.
   */
  HOTAD_BGR8 = 3,
  /**
   * Red, green, blue, alpha, 8 bits each.
   */
  HOTAD_RGBA8 = 4,
  /**
   * Blue, green, red, alpha, 8 bits each.
   */
  HOTAD_BGRA8 = 5,
  /**
   * Red, green, blue, 16 bits each.
   */
  HOTAD_RGB16 = 6,
  /**
   * A colour sensor of 8 bits: first row red, green; second green, blue.
   */
  HOTAD_BAYER_RGGB8 = 7,
  /**
   * First row blue, green; second green, red.
   */
  HOTAD_BAYER_BGGR8 = 8,
  /**
   * First row green, red; second blue, green.
   */
  HOTAD_BAYER_GRBG8 = 9,
  /**
   * First row green, blue; second red, green.
   */
  HOTAD_BAYER_GBRG8 = 10,
} hotad_format;

/**
 * What is decided of a frame.
 */
typedef enum {
  /**
   * The score is not above the image threshold.
   */
  HOTAD_NORMAL = 0,
  /**
   * It is.
   */
  HOTAD_ANOMALY = 1,
  /**
   * Not inspected, or not before the deadline.
   */
  HOTAD_UNDECIDED = 2,
} hotad_label;

/**
 * Which map a verdict holds.
 */
typedef enum {
  /**
   * None.
   */
  HOTAD_MAP_NONE = 0,
  /**
   * One of the model's size.
   */
  HOTAD_MAP_MODEL = 1,
  /**
   * One of the frame's size.
   */
  HOTAD_MAP_FRAME = 2,
} hotad_map;

/**
 * How frames are inspected. Set it up with `hotad_options_init`.
 */
typedef struct {
  /**
   * `sizeof(hotad_options)`.
   */
  size_t size;
  /**
   * "auto", "cpu", "cuda:N" or "wgpu:N"; null for "auto".
   */
  const char *device;
  /**
   * "f32", "tf32", "f16", "bf16" or "int8"; null for "f32".
   */
  const char *precision;
  /**
   * Threads of this inspector's own; 0 to share those of the process, one for each core.
   */
  uint32_t threads;
  /**
   * Most regions of a verdict.
   */
  uint32_t regions;
  /**
   * Most nanoseconds from the call to its verdict, later ones are undecided; 0 for no deadline.
   */
  uint64_t deadline_ns;
  /**
   * Which map verdicts hold: a `hotad_map`.
   */
  uint32_t map;
  /**
   * The region of frames that is looked at, "box:LEFT,TOP,WIDTH,HEIGHT", "polygon:X,Y,X,Y,..." or several with ";" between
   * them, or "mask:FILE"; null for that of the model file.
   */
  const char *roi;
  /**
   * File with the public key (PEM) that the model file has to be signed by; null where none is asked for.
   */
  const char *verify_key;
  /**
   * 1 to have the inspector's threads spin: they look for work all the time, so that none has to be woken for a frame, and take the
   * whole time of their cores; a second after the last frame they begin to look every millisecond only. Without a number of threads
   * there is one for each core. 0 not to.
   */
  uint32_t awake;
  /**
   * 0.
   */
  uint32_t reserved;
} hotad_options;

/**
 * An inspector that is open. Any thread may use it, but no two at once: the second gets `HOTAD_ERROR_BUSY`.
 */
typedef uint64_t hotad_inspector;

/**
 * An image in memory of the caller's, who keeps it unchanged during the call.
 */
typedef struct {
  /**
   * `sizeof(hotad_frame)`.
   */
  size_t size;
  /**
   * The first pixel of the first row.
   */
  const uint8_t *data;
  /**
   * Bytes that may be read from there on.
   */
  size_t data_size;
  /**
   * Columns.
   */
  size_t width;
  /**
   * Rows.
   */
  size_t height;
  /**
   * Bytes from a row to the next.
   */
  size_t stride;
  /**
   * A `hotad_format`.
   */
  uint32_t format;
  /**
   * Nanoseconds since the frame arrived, from which its deadline counts; 0 for one that arrives with the call.
   */
  uint64_t waited_ns;
} hotad_frame;

/**
 * A connected component of the map's pixels above the pixel threshold, in pixels of the frame.
 */
typedef struct {
  /**
   * First column.
   */
  uint32_t left;
  /**
   * First row.
   */
  uint32_t top;
  /**
   * Columns.
   */
  uint32_t width;
  /**
   * Rows.
   */
  uint32_t height;
  /**
   * Pixels.
   */
  float area;
  /**
   * Column of the centre of its pixels, the middle of the first column being 0.5.
   */
  float center_x;
  /**
   * Row of it.
   */
  float center_y;
  /**
   * Largest value of the map within.
   */
  float peak;
  /**
   * Column of that value.
   */
  uint32_t peak_x;
  /**
   * Row of it.
   */
  uint32_t peak_y;
} hotad_region;

/**
 * What an inspection says. The caller sets the first five fields and keeps the memory that they point to; the library fills the
 * rest.
 */
typedef struct {
  /**
   * `sizeof(hotad_verdict)`.
   */
  size_t size;
  /**
   * Memory for regions; null where none are wanted.
   */
  hotad_region *regions;
  /**
   * Regions that fit there.
   */
  size_t region_capacity;
  /**
   * Memory for the map, row by row; null where none is wanted. Unchanged where there is no map.
   */
  float *map;
  /**
   * Values that fit there.
   */
  size_t map_capacity;
  /**
   * Larger is more anomalous; NaN where the frame was not inspected.
   */
  float score;
  /**
   * The score on a scale from 0 to 1 that is 0.5 at the threshold; NaN where the frame was not inspected.
   */
  float calibrated;
  /**
   * The image threshold that the score was compared with.
   */
  float image_threshold;
  /**
   * The pixel threshold that the regions lie above.
   */
  float pixel_threshold;
  /**
   * A `hotad_label`.
   */
  uint32_t label;
  /**
   * For a method that goes on in steps and was stopped by the deadline: steps done; else -1.
   */
  int64_t stopped_after;
  /**
   * 1 where the verdict came after the deadline, or the frame could not be inspected before it; else 0.
   */
  uint32_t late;
  /**
   * Regions that were written, those with the highest peaks first.
   */
  size_t region_count;
  /**
   * Columns of the map, also of one that did not fit; 0 for none: where the options ask for none, or the deadline had passed before
   * the frame was inspected.
   */
  size_t map_width;
  /**
   * Rows of it.
   */
  size_t map_height;
  /**
   * Nanoseconds that the frame waited to be inspected.
   */
  uint64_t wait_ns;
  /**
   * Nanoseconds of bringing it to the model's format and size.
   */
  uint64_t preprocess_ns;
  /**
   * Nanoseconds of the model.
   */
  uint64_t score_ns;
  /**
   * Nanoseconds of label, regions and map.
   */
  uint64_t verdict_ns;
} hotad_verdict;

/**
 * A change of thresholds.
 */
typedef struct {
  /**
   * When: nanoseconds since the beginning of 1970 (UTC).
   */
  uint64_t at_ns;
  /**
   * The image threshold before.
   */
  float image_before;
  /**
   * The pixel threshold before.
   */
  float pixel_before;
  /**
   * The image threshold since.
   */
  float image_after;
  /**
   * The pixel threshold since.
   */
  float pixel_after;
  /**
   * Who, as `hotad_set_thresholds` was told, ended by a zero; cut where it is longer.
   */
  char by[64];
} hotad_threshold_change;

/**
 * What an inspector is of.
 */
typedef struct {
  /**
   * `sizeof(hotad_info)`.
   */
  size_t size;
  /**
   * Columns of the images that the model takes; frames are brought to it.
   */
  size_t width;
  /**
   * Rows.
   */
  size_t height;
  /**
   * 1 (gray) or 3 (colour).
   */
  size_t channels;
  /**
   * The image threshold of the model file.
   */
  float image_threshold;
  /**
   * The pixel threshold of the model file.
   */
  float pixel_threshold;
  /**
   * Share of normal images that the image threshold may call anomalies.
   */
  double false_alarm_rate;
  /**
   * Share that the images it comes from can promise; 0 where that is not known.
   */
  double promised_false_alarm_rate;
  /**
   * Name of the method, ended by a zero.
   */
  char method[32];
  /**
   * Name of the device, ended by a zero.
   */
  char device[32];
} hotad_info;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of this library, such as "0.1.0".
 */
const char *hotad_version(void);

/**
 * The words of the last call of this thread that failed; they stay until the next one fails. Empty where none has.
 */
const char *hotad_last_error(void);

/**
 * Sets the most megapixels of a frame or mask, for the whole process and from now on: 1 to 1,000,000, and 100 unless it is called.
 */
hotad_status hotad_set_max_megapixels(uint32_t megapixels);

/**
 * Sets the options to their defaults. `size` is `sizeof(hotad_options)`.
 *
 * # Safety
 * `options` is null or points to `size` bytes that may be written.
 */
hotad_status hotad_options_init(hotad_options *options, size_t size);

/**
 * Reads a model file. `options` may be null for the defaults. On success `*inspector` is to be closed with `hotad_close`.
 *
 * # Safety
 * `path` is null or ends with a zero, `options` is null or as its size says with texts that end with a zero, `inspector` is null
 * or may be written.
 */
hotad_status hotad_open(const char *path,
                        const hotad_options *options,
                        hotad_inspector *inspector);

/**
 * Closes an inspector, after a call that another thread is in the middle of. A second time, and for 0, it returns
 * `HOTAD_ERROR_CLOSED` and does nothing.
 */
hotad_status hotad_close(hotad_inspector inspector);

/**
 * Inspects blank frames until all memory is taken and all kernels are compiled that frames of this size need.
 */
hotad_status hotad_warm_up(hotad_inspector inspector,
                           size_t height,
                           size_t width,
                           uint32_t format);

/**
 * Inspects a frame.
 *
 * # Safety
 * `frame` is null or as its size says, with `data_size` bytes at `data` that nobody writes during the call; `verdict` is null or
 * as its size says, with memory for `region_capacity` regions and `map_capacity` values. Both are aligned.
 */
hotad_status hotad_inspect(hotad_inspector inspector,
                           const hotad_frame *frame,
                           hotad_verdict *verdict);

/**
 * Inspects frames together, of any sizes and formats. Each verdict is the one that its frame alone would get; times are of the
 * whole batch, which counts as arrived with the frame that has waited longest. Where a frame is refused all verdicts are undecided
 * and the words name its number; where a map does not fit, those after it are.
 *
 * # Safety
 * `frames` and `verdicts` are null or point to `count` pointers, each as for `hotad_inspect`; no two verdicts are the same.
 */
hotad_status hotad_inspect_batch(hotad_inspector inspector,
                                 const hotad_frame *const *frames,
                                 hotad_verdict *const *verdicts,
                                 size_t count);

/**
 * Changes the thresholds of an inspector, at any time, from any thread; the next frame is judged by them. `by` says who does.
 *
 * # Safety
 * `by` is null or ends with a zero.
 */
hotad_status hotad_set_thresholds(hotad_inspector inspector,
                                  float image,
                                  float pixel,
                                  const char *by);

/**
 * The thresholds that the next frame is judged by.
 *
 * # Safety
 * `image` and `pixel` are null or may be written.
 */
hotad_status hotad_get_thresholds(hotad_inspector inspector, float *image, float *pixel);

/**
 * The changes of thresholds since an inspector was opened, oldest first, from number `first` on: writes as many as fit into
 * `changes`, which may be null, and the number of all changes to `count`.
 *
 * # Safety
 * `changes` is null or has memory for `capacity` of them, `count` is null or may be written.
 */
hotad_status hotad_threshold_changes(hotad_inspector inspector,
                                     size_t first,
                                     hotad_threshold_change *changes,
                                     size_t capacity,
                                     size_t *count);

/**
 * What an inspector is of. The caller sets `size`.
 *
 * # Safety
 * `info` is null or as its size says.
 */
hotad_status hotad_get_info(hotad_inspector inspector, hotad_info *info);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* HOTAD_H */
