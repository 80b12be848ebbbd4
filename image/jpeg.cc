// JPEG by libjpeg-turbo, with its defaults (accurate integer DCT, smooth
// upsampling), which are Pillow's.
//
// The library reports errors by longjmp. It crosses only functions whose locals
// are trivially destructible, and those keep nothing in a local that they read
// after the jump: what outlives it is in JpegJob.
#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

// After <cstdio>, which it needs.
#include <jerror.h>
#include <jpeglib.h>

#include "base/status_macros.h"
#include "image/exif.h"
#include "image/format_reader.h"

namespace ounce::image {
namespace {

// Encoders write about ten; each costs a walk over all blocks, however few
// bytes it has.
constexpr int kMaxScans = 64;

enum class Fault { kNone, kCorrupt, kTruncated, kMemory, kScans };

struct JpegJob {
  jpeg_decompress_struct info;
  jpeg_error_mgr errors;
  jpeg_source_mgr source;
  jpeg_progress_mgr progress;
  std::jmp_buf escape;
  Fault fault;
  char message[JMSG_LENGTH_MAX];
};

JpegJob& JobOf(j_common_ptr info) {
  return *static_cast<JpegJob*>(info->client_data);
}

[[noreturn]] void Escape(j_common_ptr info, Fault fault) {
  JpegJob& job = JobOf(info);
  job.fault = fault;
  std::longjmp(job.escape, 1);
}

[[noreturn]] void OnError(j_common_ptr info) {
  JpegJob& job = JobOf(info);
  info->err->format_message(info, job.message);
  const int code = info->err->msg_code;
  Escape(info, code == JERR_OUT_OF_MEMORY || code == JERR_NO_BACKING_STORE
                   ? Fault::kMemory
                   : Fault::kCorrupt);
}

// Warnings are ignored, as Pillow ignores them.
void OnMessage(j_common_ptr, int) {}

void NoOp(j_decompress_ptr) {}

// All bytes are there from the beginning, so wanting more means truncated.
boolean Refill(j_decompress_ptr info) {
  Escape(reinterpret_cast<j_common_ptr>(info), Fault::kTruncated);
}

void Skip(j_decompress_ptr info, long count) {
  if (count <= 0) return;
  if (static_cast<size_t>(count) > info->src->bytes_in_buffer) Refill(info);
  info->src->next_input_byte += count;
  info->src->bytes_in_buffer -= count;
}

void OnProgress(j_common_ptr info) {
  if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number > kMaxScans) {
    Escape(info, Fault::kScans);
  }
}

class Jpeg {
 public:
  explicit Jpeg(std::string_view bytes)
      : bytes_(bytes), job_(std::make_unique<JpegJob>()) {
    *job_ = {};
    job_->info.err = jpeg_std_error(&job_->errors);
    job_->errors.error_exit = OnError;
    job_->errors.emit_message = OnMessage;
    job_->info.client_data = job_.get();
    job_->progress.progress_monitor = OnProgress;
    job_->source.init_source = NoOp;
    job_->source.fill_input_buffer = Refill;
    job_->source.skip_input_data = Skip;
    job_->source.resync_to_restart = jpeg_resync_to_restart;
    job_->source.term_source = NoOp;
    job_->source.next_input_byte =
        reinterpret_cast<const JOCTET*>(bytes.data());
    job_->source.bytes_in_buffer = bytes.size();
  }
  ~Jpeg() { jpeg_destroy_decompress(&job_->info); }
  Jpeg(const Jpeg&) = delete;
  Jpeg& operator=(const Jpeg&) = delete;

  absl::Status ReadHeader() {
    if (!TryHeader(*job_)) return Status();
    const int channels = job_->info.num_components;
    if (channels != 1 && channels != 3 && channels != 4) {
      return Corrupt(
          absl::StrCat("it has ", channels, " channels, not 1, 3 or 4"));
    }
    return absl::OkStatus();
  }

  // After ReadHeader. `row` holds one row of four channels.
  absl::Status Decode(int64_t working_bytes, uint8_t* row, Rgb8& out) {
    job_->info.mem->max_memory_to_use = working_bytes;
    if (!TryDecode(*job_, row, out.data(), out.width() * 3)) return Status();
    return absl::OkStatus();
  }

  // After ReadHeader.
  int64_t WorkingBytes() {
    jpeg_decompress_struct& info = job_->info;
    // Rows of samples and of blocks on their way, and the library's tables.
    int64_t bytes = (int64_t{1} << 20) + int64_t{512} * info.image_width;
    // All coefficients, where a scan brings a part of each.
    if (jpeg_has_multiple_scans(&info)) {
      for (int c = 0; c < info.num_components; ++c) {
        const jpeg_component_info& component = info.comp_info[c];
        const int64_t across = component.width_in_blocks + 3;
        const int64_t down = component.height_in_blocks + 3;
        bytes += across * down * DCTSIZE2 * sizeof(JCOEF);
      }
    }
    return bytes;
  }

  int64_t width() const { return job_->info.image_width; }
  int64_t height() const { return job_->info.image_height; }

 private:
  static bool TryHeader(JpegJob& job) {
    if (setjmp(job.escape) != 0) return false;
    jpeg_create_decompress(&job.info);
    job.info.src = &job.source;
    job.info.progress = &job.progress;
    jpeg_read_header(&job.info, TRUE);
    return true;
  }

  static bool TryDecode(JpegJob& job, uint8_t* row, uint8_t* out,
                        int64_t stride) {
    if (setjmp(job.escape) != 0) return false;
    jpeg_decompress_struct& info = job.info;
    const bool cmyk = info.num_components == 4;
    info.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    jpeg_start_decompress(&info);
    while (info.output_scanline < info.output_height) {
      uint8_t* const pixels = out + info.output_scanline * stride;
      uint8_t* target = cmyk ? row : pixels;
      if (jpeg_read_scanlines(&info, &target, 1) != 1) Refill(&info);
      if (cmyk) CmykToRgb(row, info.output_width, pixels);
    }
    jpeg_finish_decompress(&info);
    return true;
  }

  // Inverted, as Adobe writes it and Pillow takes all; then each of red, green
  // and blue is (1 - ink) * (1 - black), rounded as Pillow does it.
  static void CmykToRgb(const uint8_t* cmyk, int64_t width, uint8_t* rgb) {
    for (int64_t x = 0; x < width; ++x) {
      const int white = cmyk[x * 4 + 3];
      for (int c = 0; c < 3; ++c) {
        const int product = (255 - cmyk[x * 4 + c]) * white + 128;
        const int ink = ((product >> 8) + product) >> 8;
        rgb[x * 3 + c] = static_cast<uint8_t>(white > ink ? white - ink : 0);
      }
    }
  }

  absl::Status Status() const {
    switch (job_->fault) {
      case Fault::kTruncated:
        return Truncated(bytes_);
      case Fault::kMemory:
        return absl::ResourceExhaustedError(
            absl::StrCat("no memory to decode: ", job_->message));
      case Fault::kScans:
        return absl::ResourceExhaustedError(absl::StrCat(
            "it has more than ", kMaxScans, " scans, which is the limit"));
      case Fault::kNone:
      case Fault::kCorrupt:
        break;
    }
    return Corrupt(job_->message);
  }

  const std::string_view bytes_;
  const std::unique_ptr<JpegJob> job_;  // the library keeps its address
};

// Of the first EXIF segment before the pixels.
int Orientation(std::string_view bytes) {
  constexpr std::string_view kExif("Exif\0\0", 6);
  constexpr uint8_t kApp1 = 0xe1, kStartOfScan = 0xda;
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  for (size_t at = 2; at + 4 <= bytes.size();) {
    if (byte(at) != 0xff) return 1;
    const uint8_t marker = byte(at + 1);
    if (marker == 0xff) {  // fill byte
      ++at;
      continue;
    }
    if (marker == kStartOfScan) return 1;
    const size_t length = byte(at + 2) << 8 | byte(at + 3);
    if (length < 2 || at + 2 + length > bytes.size()) return 1;
    const std::string_view payload = bytes.substr(at + 4, length - 2);
    if (marker == kApp1 && payload.starts_with(kExif)) {
      return ExifOrientation(payload);
    }
    at += 2 + length;
  }
  return 1;
}

}  // namespace

absl::StatusOr<StoredHeader> ReadJpegHeader(std::string_view bytes) {
  Jpeg jpeg(bytes);
  RETURN_IF_ERROR(jpeg.ReadHeader());
  return StoredHeader{.width = jpeg.width(),
                      .height = jpeg.height(),
                      .orientation = Orientation(bytes),
                      .working_bytes = jpeg.WorkingBytes()};
}

absl::Status DecodeJpeg(std::string_view bytes, const StoredHeader& header,
                        Rgb8& out) {
  Jpeg jpeg(bytes);
  RETURN_IF_ERROR(jpeg.ReadHeader());
  std::vector<uint8_t> row(out.width() * 4);
  return jpeg.Decode(header.working_bytes, row.data(), out);
}

}  // namespace ounce::image
