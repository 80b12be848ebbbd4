#include "model/tokenizer/sentencepiece_model.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "base/utf8.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/wire_format_lite.h"
#include "model/files/byte_source.h"
#include "model/tokenizer/vocabulary.h"

namespace ounce::model {
namespace {

using ::google::protobuf::internal::WireFormatLite;
using ::google::protobuf::io::CodedInputStream;

// Numbers of fields.
enum ModelField { kPieces = 1, kTrainerSpec = 2 };
enum PieceField { kText = 1, kScore = 2, kType = 3 };
enum TrainerField { kModelType = 3, kUnknownPiece = 45 };

// The fields of one message, one after the other, in place of classes that a
// compiler makes of the .proto: a file of empty pieces would fill memory with
// thirty times its size.
class Fields {
 public:
  explicit Fields(std::string_view bytes)
      : bytes_(bytes),
        stream_(reinterpret_cast<const uint8_t*>(bytes.data()),
                static_cast<int>(bytes.size())) {}

  // Goes to the next field; false at the end, or where failed().
  bool Next() {
    tag_ = stream_.ReadTag();
    if (tag_ == 0) failed_ |= !stream_.ConsumedEntireMessage();
    return tag_ != 0;
  }
  bool failed() const { return failed_; }

  // Whether this is field `number` and has the wire type that its values have;
  // otherwise it is one that nobody knows.
  bool Is(int number, WireFormatLite::WireType type) const {
    return WireFormatLite::GetTagFieldNumber(tag_) == number &&
           WireFormatLite::GetTagWireType(tag_) == type;
  }

  void Skip() { failed_ |= !WireFormatLite::SkipField(&stream_, tag_); }

  std::string_view Bytes() {
    uint32_t size = 0;
    failed_ |= !stream_.ReadVarint32(&size);
    const int begin = stream_.CurrentPosition();
    // What is longer than the rest, or negative, is not skipped.
    failed_ = failed_ || !stream_.Skip(static_cast<int>(size));
    return failed_ ? std::string_view() : bytes_.substr(begin, size);
  }
  float Float() {
    uint32_t bits = 0;
    failed_ |= !stream_.ReadLittleEndian32(&bits);
    return WireFormatLite::DecodeFloat(bits);
  }
  int Enum() {
    uint64_t value = 0;
    failed_ |= !stream_.ReadVarint64(&value);
    return static_cast<int>(value);
  }

 private:
  const std::string_view bytes_;
  CodedInputStream stream_;
  uint32_t tag_ = 0;
  bool failed_ = false;
};

absl::Status NotAModel() {
  return absl::InvalidArgumentError(
      "is no SentencePiece model; with a tokenizer.json beside it, that would "
      "be read");
}

absl::StatusOr<SentencePiece> ReadPiece(std::string_view bytes) {
  SentencePiece piece;
  Fields fields(bytes);
  while (!fields.failed() && fields.Next()) {
    if (fields.Is(kText, WireFormatLite::WIRETYPE_LENGTH_DELIMITED)) {
      piece.text = fields.Bytes();
    } else if (fields.Is(kScore, WireFormatLite::WIRETYPE_FIXED32)) {
      piece.score = fields.Float();
    } else if (fields.Is(kType, WireFormatLite::WIRETYPE_VARINT)) {
      const int type = fields.Enum();
      if (type < static_cast<int>(SentencePiece::Type::kNormal) ||
          type > static_cast<int>(SentencePiece::Type::kByte)) {
        return absl::InvalidArgumentError(
            StrCat("has type ", type, ", which is not known"));
      }
      piece.type = static_cast<SentencePiece::Type>(type);
    } else {
      fields.Skip();
    }
  }
  if (fields.failed()) return NotAModel();
  if (piece.text.empty()) return absl::InvalidArgumentError("is empty");
  if (ValidUtf8Prefix(piece.text) != piece.text.size()) {
    return absl::InvalidArgumentError(
        StrCat(Quoted(piece.text), " is not UTF-8"));
  }
  if (!std::isfinite(piece.score)) {
    return absl::InvalidArgumentError(
        StrCat(Quoted(piece.text), " has a score that is no number"));
  }
  return piece;
}

absl::Status ReadTrainerSpec(std::string_view bytes,
                             SentencePieceModel& model) {
  using Algorithm = SentencePieceModel::Algorithm;
  Fields fields(bytes);
  while (!fields.failed() && fields.Next()) {
    if (fields.Is(kModelType, WireFormatLite::WIRETYPE_VARINT)) {
      const int type = fields.Enum();
      if (type < static_cast<int>(Algorithm::kUnigram) ||
          type > static_cast<int>(Algorithm::kCharacter)) {
        return absl::InvalidArgumentError(
            StrCat("model type ", type, " is not known"));
      }
      model.algorithm = static_cast<Algorithm>(type);
    } else if (fields.Is(kUnknownPiece,
                         WireFormatLite::WIRETYPE_LENGTH_DELIMITED)) {
      model.unknown_piece = fields.Bytes();
    } else {
      fields.Skip();
    }
  }
  return fields.failed() ? NotAModel() : absl::OkStatus();
}

absl::Status CheckPieces(const std::vector<SentencePiece>& pieces) {
  absl::flat_hash_set<absl::string_view> texts;
  texts.reserve(pieces.size());
  int num_unknown = 0;
  for (const SentencePiece& piece : pieces) {
    if (!texts.insert(piece.text).second) {
      return absl::InvalidArgumentError(
          StrCat("piece ", Quoted(piece.text), " comes twice"));
    }
    num_unknown += piece.type == SentencePiece::Type::kUnknown;
  }
  if (num_unknown == 1) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat("must have one unknown piece, has ", num_unknown));
}

}  // namespace

absl::StatusOr<SentencePieceModel> ReadSentencePieceModel(
    std::string_view bytes) {
  if (bytes.size() > size_t{std::numeric_limits<int>::max()}) {
    return absl::InvalidArgumentError(
        StrCat("must have less than 2 GiB, has ", bytes.size(), " bytes"));
  }
  SentencePieceModel model;
  Fields fields(bytes);
  while (!fields.failed() && fields.Next()) {
    if (fields.Is(kPieces, WireFormatLite::WIRETYPE_LENGTH_DELIMITED)) {
      const size_t id = model.pieces.size();
      if (id == size_t{kMaxVocabularySize}) {
        return absl::InvalidArgumentError(
            StrCat("must have at most ", kMaxVocabularySize, " pieces"));
      }
      const std::string_view bytes_of_piece = fields.Bytes();
      if (fields.failed()) break;
      absl::StatusOr<SentencePiece> piece = ReadPiece(bytes_of_piece);
      if (!piece.ok()) return WithContext(piece.status(), StrCat("piece ", id));
      model.pieces.push_back(*std::move(piece));
    } else if (fields.Is(kTrainerSpec,
                         WireFormatLite::WIRETYPE_LENGTH_DELIMITED)) {
      RETURN_IF_ERROR(ReadTrainerSpec(fields.Bytes(), model));
    } else {
      fields.Skip();
    }
  }
  if (fields.failed() || model.pieces.empty()) return NotAModel();
  RETURN_IF_ERROR(CheckPieces(model.pieces));
  return model;
}

}  // namespace ounce::model
