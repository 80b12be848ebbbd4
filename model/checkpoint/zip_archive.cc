#include "model/checkpoint/zip_archive.h"

#include <unzip.h>
#include <zlib.h>

#include <algorithm>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"

namespace ounce::model {
namespace {

constexpr int64_t kMaxMembers = 100'000;
constexpr int64_t kChunkBytes = 256 << 10;

// `file` through a window: minizip and we ask for a few bytes at a time, one
// behind the other, and a directory may have many thousand entries.
//
// Threads: one at a time.
class Windowed final : public ByteSource {
 public:
  explicit Windowed(const ByteSource& file)
      : ByteSource(file.name(), file.size()), file_(file) {}

 private:
  absl::Status ReadInside(int64_t offset, int64_t length,
                          void* out) const override {
    const auto bytes = static_cast<int64_t>(window_.size());
    if (offset < begin_ || offset + length > begin_ + bytes) {
      if (length > kWindowBytes) return file_.Read(offset, length, out);
      window_.resize(std::min(kWindowBytes, size() - offset));
      begin_ = offset;
      if (absl::Status status = file_.Read(
              offset, static_cast<int64_t>(window_.size()), window_.data());
          !status.ok()) {
        window_.clear();
        return status;
      }
    }
    std::copy_n(window_.begin() + (offset - begin_), length,
                static_cast<char*>(out));
    return absl::OkStatus();
  }

  static constexpr int64_t kWindowBytes = 64 << 10;

  const ByteSource& file_;
  mutable int64_t begin_ = 0;
  mutable std::string window_;
};

// What minizip calls a file: a ByteSource and a position in it.
struct Cursor {
  const ByteSource* file;
  int64_t position;
};

void* OpenCursor(void* source, const void*, int) {
  return new Cursor{static_cast<const Windowed*>(source), 0};
}

int CloseCursor(void*, void* stream) {
  delete static_cast<Cursor*>(stream);
  return 0;
}

uLong ReadCursor(void*, void* stream, void* out, uLong length) {
  auto* cursor = static_cast<Cursor*>(stream);
  const int64_t left = cursor->file->size() - cursor->position;
  const int64_t n = std::min<int64_t>(length, std::max(left, int64_t{0}));
  if (!cursor->file->Read(cursor->position, n, out).ok()) return 0;
  cursor->position += n;
  return n;
}

ZPOS64_T TellCursor(void*, void* stream) {
  return static_cast<Cursor*>(stream)->position;
}

long SeekCursor(void*, void* stream, ZPOS64_T offset, int origin) {
  auto* cursor = static_cast<Cursor*>(stream);
  int64_t base = 0;
  if (origin == ZLIB_FILEFUNC_SEEK_CUR) base = cursor->position;
  if (origin == ZLIB_FILEFUNC_SEEK_END) base = cursor->file->size();
  const uint64_t position = static_cast<uint64_t>(base) + offset;
  if (position > static_cast<uint64_t>(cursor->file->size())) return -1;
  cursor->position = static_cast<int64_t>(position);
  return 0;
}

int CursorError(void*, void*) { return 0; }

struct Closer {
  void operator()(void* zip) const { unzClose(zip); }
};

bool IsSafeName(const std::string& name) {
  if (name.empty() || name.front() == '/') return false;
  const std::vector<std::string> parts = absl::StrSplit(name, '/');
  for (const std::string& part : parts) {
    if (part == "..") return false;
  }
  return name.find_first_of(std::string("\\\0", 2)) == std::string::npos;
}

uint64_t Little(const unsigned char* bytes, int n) {
  uint64_t number = 0;
  for (int i = n - 1; i >= 0; --i) number = number << 8 | bytes[i];
  return number;
}

// The zip64 field of a directory entry holds, in this order, those of its
// numbers that do not fit 32 bits. False when one is missing.
bool ReadZip64Field(const std::vector<unsigned char>& extra, uint64_t* size,
                    uint64_t* compressed_size, uint64_t* header_at) {
  constexpr uint64_t kElsewhere = 0xffffffff;
  size_t at = 0;
  size_t end = 0;
  while (at + 4 <= extra.size()) {
    const uint64_t id = Little(&extra[at], 2);
    end = at + 4 + Little(&extra[at + 2], 2);
    if (end > extra.size()) return false;
    at += 4;
    if (id == 1) break;
    at = end;
  }
  for (uint64_t* number : {size, compressed_size, header_at}) {
    if (*number != kElsewhere) continue;
    if (at + 8 > end) return false;
    *number = Little(&extra[at], 8);
    at += 8;
  }
  return true;
}

// Where the member of `file` lies whose entry is at `entry_at` of `directory`,
// the same file. Read here, for minizip 1.1 overlooks the zip64 field where a
// long has 64 bits. Only the reason in the error.
absl::StatusOr<ZipMember> PlaceMember(const ByteSource& file,
                                      const ByteSource& directory,
                                      uint64_t entry_at) {
  const auto refuse = [](const char* reason) {
    return absl::InvalidArgumentError(reason);
  };
  constexpr int kEntryBytes = 46;
  constexpr int kHeaderBytes = 30;
  unsigned char entry[kEntryBytes];
  RETURN_IF_ERROR(
      directory.Read(static_cast<int64_t>(entry_at), sizeof entry, entry));
  if (Little(entry, 4) != 0x02014b50) return refuse("no directory entry");
  const auto name_bytes = static_cast<int64_t>(Little(entry + 28, 2));
  std::vector<unsigned char> extra(Little(entry + 30, 2));
  RETURN_IF_ERROR(
      directory.Read(static_cast<int64_t>(entry_at) + kEntryBytes + name_bytes,
                     static_cast<int64_t>(extra.size()), extra.data()));
  uint64_t compressed_size = Little(entry + 20, 4);
  uint64_t size = Little(entry + 24, 4);
  uint64_t header_at = Little(entry + 42, 4);
  if (!ReadZip64Field(extra, &size, &compressed_size, &header_at)) {
    return refuse("malformed zip64 field");
  }
  if (Little(entry + 10, 2) != 0 || (Little(entry + 8, 2) & 1) != 0 ||
      size != compressed_size) {
    return refuse(
        "must be stored as torch.save writes it, is compressed (as in "
        "TorchScript) or encrypted");
  }
  const auto file_size = static_cast<uint64_t>(file.size());
  if (header_at > file_size) return refuse("its header is outside the file");
  unsigned char header[kHeaderBytes];
  RETURN_IF_ERROR(
      file.Read(static_cast<int64_t>(header_at), sizeof header, header));
  if (Little(header, 4) != 0x04034b50) {
    return refuse("its header is not where the directory says");
  }
  const uint64_t offset = header_at + kHeaderBytes + Little(header + 26, 2) +
                          Little(header + 28, 2);
  if (offset > file_size || size > file_size - offset) {
    return absl::InvalidArgumentError(absl::StrCat(
        size, " bytes at byte ", offset, ", the file has ", file_size));
  }
  return ZipMember{static_cast<int64_t>(offset), static_cast<int64_t>(size),
                   static_cast<uint32_t>(Little(entry + 16, 4))};
}

// The member that minizip stands on.
absl::StatusOr<std::pair<std::string, ZipMember>> CurrentMember(
    const ByteSource& file, const ByteSource& directory, void* zip) {
  const auto refuse = [&](const std::string& reason) {
    return absl::InvalidArgumentError(absl::StrCat(file.name(), ": ", reason));
  };
  unz_file_info64 info;
  if (unzGetCurrentFileInfo64(zip, &info, nullptr, 0, nullptr, 0, nullptr, 0) !=
      UNZ_OK) {
    return refuse("malformed zip directory");
  }
  std::string name(info.size_filename, '\0');
  if (unzGetCurrentFileInfo64(zip, &info, name.data(), name.size(), nullptr, 0,
                              nullptr, 0) != UNZ_OK) {
    return refuse("malformed zip directory");
  }
  const std::string member = absl::StrCat("zip member ", Quoted(name), ": ");
  if (!IsSafeName(name)) {
    return refuse(member + "its name leads out of the archive");
  }
  const absl::StatusOr<ZipMember> place =
      PlaceMember(file, directory, unzGetOffset64(zip));
  if (absl::IsInvalidArgument(place.status())) {
    return refuse(member + std::string(place.status().message()));
  }
  RETURN_IF_ERROR(place.status());
  return std::pair(std::move(name), *place);
}

}  // namespace

absl::StatusOr<std::map<std::string, ZipMember>> ListZipMembers(
    const ByteSource& file) {
  zlib_filefunc64_def functions = {};
  functions.zopen64_file = OpenCursor;
  functions.zread_file = ReadCursor;
  functions.ztell64_file = TellCursor;
  functions.zseek64_file = SeekCursor;
  functions.zclose_file = CloseCursor;
  functions.zerror_file = CursorError;
  Windowed directory(file);
  functions.opaque = &directory;
  constexpr int64_t kEndBytes = 22;  // torch.save adds no comment to it
  unsigned char end[kEndBytes] = {};
  if (file.size() >= kEndBytes) {
    RETURN_IF_ERROR(file.Read(file.size() - kEndBytes, kEndBytes, end));
  }
  const std::unique_ptr<void, Closer> zip(
      unzOpen2_64(file.name().c_str(), &functions));
  if (zip == nullptr || Little(end, 4) != 0x06054b50) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.name(),
                     ": no zip directory at its end: the file is too short, or "
                     "not one of torch.save; download it again"));
  }
  std::map<std::string, ZipMember> members;
  int result = unzGoToFirstFile(zip.get());
  for (; result == UNZ_OK; result = unzGoToNextFile(zip.get())) {
    RETURN_IF_ERROR(file.CheckProceed());
    ASSIGN_OR_RETURN(auto member, CurrentMember(file, directory, zip.get()));
    const std::string name = member.first;
    if (!members.insert(std::move(member)).second) {
      return absl::InvalidArgumentError(absl::StrCat(
          file.name(), ": zip member ", Quoted(name), " comes twice"));
    }
    if (static_cast<int64_t>(members.size()) > kMaxMembers) {
      return absl::InvalidArgumentError(absl::StrCat(
          file.name(), ": more than ", kMaxMembers, " zip members"));
    }
  }
  if (result != UNZ_END_OF_LIST_OF_FILE) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.name(), ": malformed zip directory"));
  }
  return members;
}

absl::Status CheckCrc(const ByteSource& file, const std::string& name,
                      const ZipMember& member) {
  std::vector<unsigned char> raw(std::min(kChunkBytes, member.size));
  uLong crc = ::crc32(0, nullptr, 0);
  for (int64_t done = 0; done < member.size;) {
    RETURN_IF_ERROR(file.CheckProceed());
    const int64_t n = std::min(kChunkBytes, member.size - done);
    RETURN_IF_ERROR(file.Read(member.offset + done, n, raw.data()));
    crc = ::crc32(crc, raw.data(), static_cast<uInt>(n));
    done += n;
  }
  if (crc != member.crc32) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: zip member %s: CRC-32 must be %08x, is %08x: "
                        "the file is damaged; download it again",
                        file.name(), Quoted(name), member.crc32, crc));
  }
  return absl::OkStatus();
}

}  // namespace ounce::model
