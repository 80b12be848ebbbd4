// PNG by libpng. It decodes pixels alone: of the other chunks we read those
// that matter ourselves: acTL, eXIf, and texts in which ImageMagick keeps EXIF.
//
// The library reports errors by longjmp; see jpeg.cc for how that is kept safe.
#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

// After <csetjmp>, whose setjmp it names.
#include <png.h>
#include <zlib.h>

#include <string>
#include <string_view>

#include "base/status_macros.h"
#include "image/exif.h"
#include "image/format_reader.h"

namespace ounce::image {
namespace {

constexpr int64_t kSignatureBytes = 8;
constexpr int64_t kChunkOverhead = 12;  // length, type, CRC

uint32_t BigEndian32(std::string_view bytes, size_t offset) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) {
    value = value << 8 | static_cast<uint8_t>(bytes[offset + i]);
  }
  return value;
}

// The last text with EXIF in it: tEXt as it is, zTXt packed.
struct RawProfile {
  std::string_view bytes;
  bool packed = false;
};

// Takes the chunk if it is such a text. (Pillow knows iTXt too, which nobody
// writes profiles to.)
void TakeRawProfile(std::string_view type, std::string_view payload,
                    RawProfile& profile) {
  constexpr std::string_view kKeyword("Raw profile type exif\0", 22);
  if (!payload.starts_with(kKeyword)) return;
  payload.remove_prefix(kKeyword.size());
  if (type == "tEXt") {
    profile = {payload, /*packed=*/false};
  } else if (type == "zTXt" && payload.starts_with('\0')) {
    profile = {payload.substr(1), /*packed=*/true};
  }
}

// Its orientation stands near the beginning, so a few kilobytes are enough; a
// text that claims to be larger takes no more.
int OrientationOf(const RawProfile& profile) {
  constexpr size_t kMaxText = 160 << 10;  // 64 KiB of EXIF in hexadecimal
  if (!profile.packed) {
    return ExifOrientation(ExifOfRawProfile(profile.bytes.substr(0, kMaxText)));
  }
  z_stream stream = {};
  if (inflateInit(&stream) != Z_OK) return 1;
  std::string text(kMaxText, '\0');
  stream.next_in =
      const_cast<Bytef*>(reinterpret_cast<const Bytef*>(profile.bytes.data()));
  stream.avail_in = static_cast<uInt>(profile.bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(text.data());
  stream.avail_out = static_cast<uInt>(text.size());
  const int code = inflate(&stream, Z_SYNC_FLUSH);
  text.resize(text.size() - stream.avail_out);
  inflateEnd(&stream);
  // What is broken gives nothing, as in Pillow.
  if (code != Z_OK && code != Z_STREAM_END) return 1;
  return ExifOrientation(ExifOfRawProfile(text));
}

// After the last row libpng unpacks whatever else there is, a gigabyte for each
// megabyte of file. Pillow takes a picture with more data than pixels; so do
// we, up to this many bytes of it.
constexpr size_t kMaxExcessBytes = 64 << 10;

struct PngJob {
  std::string_view left;  // bytes not read yet
  bool last_row = false;
  size_t last_row_left = kMaxExcessBytes;  // may still be read for it
  int64_t memory_left;  // bytes the library may still allocate
  bool truncated = false;
  bool out_of_memory = false;
  char message[128] = {};
};

[[noreturn]] void OnError(png_structp png, png_const_charp message) {
  PngJob& job = *static_cast<PngJob*>(png_get_error_ptr(png));
  std::snprintf(job.message, sizeof(job.message), "%s", message);
  png_longjmp(png, 1);
}

void OnWarning(png_structp, png_const_charp) {}

void Read(png_structp png, png_bytep to, size_t count) {
  PngJob& job = *static_cast<PngJob*>(png_get_io_ptr(png));
  if (count > job.left.size()) {
    job.truncated = true;
    png_error(png, "truncated");
  }
  if (job.last_row) {
    if (count > job.last_row_left) {
      png_error(png, "far more data than the header's size has");
    }
    job.last_row_left -= count;
  }
  std::memcpy(to, job.left.data(), count);
  job.left.remove_prefix(count);
}

// The size stands before each block, which stays aligned.
constexpr size_t kBlockHeader = alignof(std::max_align_t);

png_voidp Allocate(png_structp png, png_alloc_size_t size) {
  PngJob& job = *static_cast<PngJob*>(png_get_mem_ptr(png));
  void* block = nullptr;
  if (size <= static_cast<size_t>(job.memory_left)) {
    block = std::malloc(size + kBlockHeader);
  }
  if (block == nullptr) {
    job.out_of_memory = true;
    return nullptr;
  }
  job.memory_left -= static_cast<int64_t>(size);
  std::memcpy(block, &size, sizeof(size));
  return static_cast<char*>(block) + kBlockHeader;
}

void Free(png_structp png, png_voidp pointer) {
  if (pointer == nullptr) return;
  char* const block = static_cast<char*>(pointer) - kBlockHeader;
  png_alloc_size_t size;
  std::memcpy(&size, block, sizeof(size));
  static_cast<PngJob*>(png_get_mem_ptr(png))->memory_left +=
      static_cast<int64_t>(size);
  std::free(block);
}

// RGB into `out`, whatever is stored: palettes looked up, grey tripled, the
// high byte of 16 bits, alpha dropped.
bool TryDecode(png_structp png, png_infop info, uint8_t* out, int64_t height,
               int64_t stride) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  // Every chunk but those that pixels need.
  png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
  png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
  png_set_chunk_malloc_max(png, 0);
  png_read_info(png, info);
  png_set_strip_16(png);
  png_set_palette_to_rgb(png);
  png_set_expand_gray_1_2_4_to_8(png);
  png_set_gray_to_rgb(png);
  png_set_strip_alpha(png);
  const int passes = png_set_interlace_handling(png);
  png_read_update_info(png, info);
  if (png_get_rowbytes(png, info) != static_cast<size_t>(stride)) {
    png_error(png, "rows of another length than the header's");
  }
  PngJob& job = *static_cast<PngJob*>(png_get_error_ptr(png));
  for (int pass = 0; pass < passes; ++pass) {
    for (int64_t y = 0; y < height; ++y) {
      if (pass == passes - 1 && y == height - 1) {
        // Stored, a pixel takes 8 bytes at most.
        job.last_row_left += static_cast<size_t>(stride) * 4;
        job.last_row = true;
      }
      png_read_row(png, out + y * stride, nullptr);
    }
  }
  return true;
}

}  // namespace

absl::StatusOr<StoredHeader> ReadPngHeader(std::string_view bytes) {
  constexpr int64_t kHeaderBytes = 13;
  const int64_t size = static_cast<int64_t>(bytes.size());
  if (size < kSignatureBytes + kChunkOverhead + kHeaderBytes) {
    return Truncated(bytes);
  }
  if (BigEndian32(bytes, kSignatureBytes) != kHeaderBytes ||
      bytes.substr(kSignatureBytes + 4, 4) != "IHDR") {
    return Corrupt("no IHDR chunk at the beginning");
  }
  StoredHeader header = {.width = BigEndian32(bytes, kSignatureBytes + 8),
                         .height = BigEndian32(bytes, kSignatureBytes + 12)};
  // zlib's window and libpng's tables; a row or two, as stored and as wanted.
  header.working_bytes = (int64_t{1} << 20) + 32 * header.width;
  bool pixels = false, has_exif = false;
  RawProfile profile;
  for (int64_t at = kSignatureBytes; at + 8 <= size;) {
    const int64_t length = BigEndian32(bytes, at);
    const std::string_view type = bytes.substr(at + 4, 4);
    if (type == "IEND") break;
    if (type == "IDAT") pixels = true;
    // A truncated chunk tells nothing; if pixels lack, decoding finds out.
    if (length + kChunkOverhead > size - at) break;
    const std::string_view payload = bytes.substr(at + 8, length);
    if (type == "acTL" && length == 8 && !pixels) {
      // One frame is a still picture; so is 0, which the format forbids, to
      // Pillow.
      header.frames = BigEndian32(payload, 0);
      header.animated = header.frames > 1;
    } else if (type == "eXIf") {
      has_exif = true;
      header.orientation = ExifOrientation(payload);
    } else {
      TakeRawProfile(type, payload, profile);
    }
    at += length + kChunkOverhead;
  }
  if (!has_exif && !profile.bytes.empty()) {
    header.orientation = OrientationOf(profile);
  }
  return header;
}

absl::Status DecodePng(std::string_view bytes, const StoredHeader& header,
                       Rgb8& out) {
  PngJob job = {.left = bytes, .memory_left = header.working_bytes};
  png_structp png = png_create_read_struct_2(
      PNG_LIBPNG_VER_STRING, &job, OnError, OnWarning, &job, Allocate, Free);
  png_infop info = png == nullptr ? nullptr : png_create_info_struct(png);
  bool done = false;
  if (info != nullptr) {
    png_set_read_fn(png, &job, Read);
    done = TryDecode(png, info, out.data(), out.height(), out.width() * 3);
  }
  png_destroy_read_struct(&png, &info, nullptr);
  if (done) return absl::OkStatus();
  if (job.truncated) return Truncated(bytes);
  if (job.out_of_memory) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory to decode: ", job.message));
  }
  return Corrupt(job.message);
}

}  // namespace ounce::image
