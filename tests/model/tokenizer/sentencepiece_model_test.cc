#include "model/tokenizer/sentencepiece_model.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/model/tokenizer/golden_files.h"
#include "tests/testing/status_matchers.h"

namespace ounce::model {
namespace {

using ::ounce::testing::StatusIs;
using ::testing::HasSubstr;

using Type = SentencePiece::Type;

std::string Varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) {
    bytes.push_back(static_cast<char>(0x80 | (value & 0x7f)));
  }
  bytes.push_back(static_cast<char>(value));
  return bytes;
}

// Fields, as protobuf writes them.
std::string Number(int field, uint64_t value) {
  return Varint(static_cast<uint64_t>(field) << 3) + Varint(value);
}
std::string Bytes(int field, const std::string& bytes) {
  return Varint(static_cast<uint64_t>(field) << 3 | 2) + Varint(bytes.size()) +
         bytes;
}
std::string Float(int field, float value) {
  char bytes[4];
  std::memcpy(bytes, &value, 4);
  return Varint(static_cast<uint64_t>(field) << 3 | 5) + std::string(bytes, 4);
}

std::string Piece(const std::string& text, float score, Type type) {
  return Bytes(1, Bytes(1, text) + Float(2, score) +
                      Number(3, static_cast<uint64_t>(type)));
}

TEST(SentencePieceModelTest, ReadsWhatTheTrainerWrote) {
  ASSERT_OK_AND_ASSIGN(const SentencePieceModel model,
                       ReadSentencePieceModel(ReadWholeFile(
                           GoldenPath("families/sentencepiece/gemma.model"))));
  EXPECT_EQ(model.algorithm, SentencePieceModel::Algorithm::kBpe);
  EXPECT_EQ(model.unknown_piece, "<unk>");
  ASSERT_EQ(model.pieces.size(), 876u);
  EXPECT_EQ(model.pieces[0].text, "<pad>");
  EXPECT_EQ(model.pieces[0].type, Type::kControl);
  EXPECT_EQ(model.pieces[3].type, Type::kUnknown);
  int num_bytes = 0;
  int num_user_defined = 0;
  for (const SentencePiece& piece : model.pieces) {
    num_bytes += piece.type == Type::kByte;
    num_user_defined += piece.type == Type::kUserDefined;
  }
  EXPECT_EQ(num_bytes, 256);
  EXPECT_EQ(num_user_defined, 6);
  EXPECT_LT(model.pieces.back().score, 0);
}

TEST(SentencePieceModelTest, TakesAbsentFieldsAsTheirDefaults) {
  // Unknown fields are passed over, and a known number of another wire type is
  // one of them.
  const std::string bytes =
      Bytes(1, Bytes(1, "a") + Number(9, 300) + Bytes(2, "?")) +
      Bytes(1, Bytes(1, "<?>") + Number(3, 2)) + Bytes(3, "anything") +
      Bytes(2, Bytes(45, "<?>"));
  ASSERT_OK_AND_ASSIGN(const SentencePieceModel model,
                       ReadSentencePieceModel(bytes));
  EXPECT_EQ(model.algorithm, SentencePieceModel::Algorithm::kUnigram);
  EXPECT_EQ(model.unknown_piece, "<?>");
  ASSERT_EQ(model.pieces.size(), 2u);
  EXPECT_EQ(model.pieces[0].text, "a");
  EXPECT_EQ(model.pieces[0].score, 0);
  EXPECT_EQ(model.pieces[0].type, Type::kNormal);
}

TEST(SentencePieceModelTest, RefusesAFileThatIsCutShort) {
  const std::string bytes = Piece("<unk>", 0, Type::kUnknown) +
                            Bytes(2, Number(3, 2) + Bytes(45, "<unk>"));
  ASSERT_OK(ReadSentencePieceModel(bytes).status());
  const size_t whole_piece = Piece("<unk>", 0, Type::kUnknown).size();
  for (size_t size = 0; size < bytes.size(); ++size) {
    const auto model = ReadSentencePieceModel(bytes.substr(0, size));
    if (size == whole_piece) continue;  // a file of its own
    EXPECT_THAT(model, StatusIs(absl::StatusCode::kInvalidArgument)) << size;
  }
}

TEST(SentencePieceModelTest, RefusesWhatIsNoModelSayingWhy) {
  const std::string unknown = Piece("<unk>", 0, Type::kUnknown);
  const auto refused = [](const std::string& bytes, const char* why) {
    EXPECT_THAT(ReadSentencePieceModel(bytes),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why)));
  };
  refused("", "is no SentencePiece model");
  refused("IQ== 0\nIg== 1\n", "is no SentencePiece model");
  refused(unknown + '\0', "is no SentencePiece model");
  refused(unknown + '\xea', "is no SentencePiece model");
  refused(unknown + Bytes(2, "\x80"), "is no SentencePiece model");
  refused(unknown + "\x0a\xff\xff\xff\xff\x0f", "is no SentencePiece model");
  refused(Bytes(2, Number(3, 2)), "is no SentencePiece model");
  refused(unknown + Piece("", 0, Type::kNormal), "piece 1: is empty");
  refused(unknown + Piece("\xff", 0, Type::kNormal), "is not UTF-8");
  refused(unknown + Piece("a", std::nanf(""), Type::kNormal), "no number");
  refused(unknown +
              Piece("a", std::numeric_limits<float>::infinity(), Type::kNormal),
          "no number");
  refused(unknown + Piece("a", 0, static_cast<Type>(7)), "type 7");
  refused(unknown + Piece("a", 0, Type::kNormal) + Piece("a", 1, Type::kByte),
          "'a' comes twice");
  refused(unknown + Bytes(2, Number(3, 9)), "model type 9");
  refused(Piece("a", 0, Type::kNormal), "one unknown piece, has 0");
  refused(unknown + Piece("?", 0, Type::kUnknown), "one unknown piece, has 2");
}

}  // namespace
}  // namespace ounce::model
