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

constexpr int64_t kMaxMembers = 1'000'000;
constexpr int64_t kChunkBytes = 256 << 10;

// What minizip calls a file: a ByteSource and a position in it.
struct Cursor {
  const ByteSource* file;
  int64_t position;
};

void* OpenCursor(void* source, const void*, int) {
  return new Cursor{static_cast<const ByteSource*>(source), 0};
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

// The member that minizip stands on.
absl::StatusOr<std::pair<std::string, ZipMember>> CurrentMember(
    const ByteSource& file, void* zip) {
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
    return refuse(member + "a name inside the archive wanted");
  }
  if (info.compression_method != 0 || (info.flag & 1) != 0 ||
      info.compressed_size != info.uncompressed_size) {
    return refuse(member +
                  "compressed or encrypted, a stored one wanted, as torch.save "
                  "writes it");
  }
  int method = 0;
  if (unzOpenCurrentFile2(zip, &method, nullptr, /*raw=*/1) != UNZ_OK) {
    return refuse(member + "its header does not agree with the directory");
  }
  const ZPOS64_T offset = unzGetCurrentFileZStreamPos64(zip);
  unzCloseCurrentFile(zip);
  const auto file_size = static_cast<uint64_t>(file.size());
  if (offset > file_size || info.uncompressed_size > file_size - offset) {
    return refuse(absl::StrCat(member, info.uncompressed_size,
                               " bytes at byte ", offset, ", the file has ",
                               file_size));
  }
  return std::pair(std::move(name),
                   ZipMember{static_cast<int64_t>(offset),
                             static_cast<int64_t>(info.uncompressed_size),
                             static_cast<uint32_t>(info.crc)});
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
  functions.opaque = const_cast<ByteSource*>(&file);
  const std::unique_ptr<void, Closer> zip(
      unzOpen2_64(file.name().c_str(), &functions));
  if (zip == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.name(),
                     ": no zip directory at its end: truncated, or not a file "
                     "of torch.save"));
  }
  std::map<std::string, ZipMember> members;
  int result = unzGoToFirstFile(zip.get());
  for (; result == UNZ_OK; result = unzGoToNextFile(zip.get())) {
    ASSIGN_OR_RETURN(auto member, CurrentMember(file, zip.get()));
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
    const int64_t n = std::min(kChunkBytes, member.size - done);
    RETURN_IF_ERROR(file.Read(member.offset + done, n, raw.data()));
    crc = ::crc32(crc, raw.data(), static_cast<uInt>(n));
    done += n;
  }
  if (crc != member.crc32) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: zip member %s: CRC-32 %08x found, %08x wanted: "
                        "the file is damaged",
                        file.name(), Quoted(name), crc, member.crc32));
  }
  return absl::OkStatus();
}

}  // namespace ounce::model
