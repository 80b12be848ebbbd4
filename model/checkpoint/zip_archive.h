// A zip archive whose members are stored, not compressed: what torch.save
// writes. Found by minizip, zip64 included; read straight from the file.
#ifndef OUNCE_MODEL_CHECKPOINT_ZIP_ARCHIVE_H_
#define OUNCE_MODEL_CHECKPOINT_ZIP_ARCHIVE_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/files/byte_source.h"

namespace ounce::model {

struct ZipMember {
  int64_t offset = 0;  // bytes, from the start of the file
  int64_t size = 0;    // bytes
  uint32_t crc32 = 0;
};

// The members by name; the range of each is inside the file. Their CRCs are
// not compared here.
// Errors: kInvalidArgument for what is no zip file or a truncated one, a member
// that is compressed, encrypted or comes twice, a name with `..` or a leading
// `/`, more than a million members.
absl::StatusOr<std::map<std::string, ZipMember>> ListZipMembers(
    const ByteSource& file);

// Reads `member` once, in pieces, and compares its CRC-32.
// Errors: kInvalidArgument when it differs; those of ByteSource::Read.
absl::Status CheckCrc(const ByteSource& file, const std::string& name,
                      const ZipMember& member);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CHECKPOINT_ZIP_ARCHIVE_H_
