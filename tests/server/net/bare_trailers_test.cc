#include "server/net/bare_trailers.h"

#include <optional>
#include <string>

#include "gmock/gmock.h"
#include "tests/server/net/http2_frames.h"

namespace ounce::server {
namespace {

using testing::Field;

// As gRPC 1.51.1 writes it.
std::string Refusal() {
  return Field(":status", "200") + Field("content-type", "application/grpc") +
         Field("grpc-status", "16") + Field("grpc-message", "sorry");
}

TEST(BareTrailersTest, ReadsWhatGrpcWritesByHand) {
  const auto trailers = ReadBareTrailers(Refusal());
  ASSERT_TRUE(trailers.has_value());
  EXPECT_EQ(trailers->code, 16);
  EXPECT_EQ(trailers->message, "sorry");
  const auto later =  // of a call that has been answered in part
      ReadBareTrailers(Field("grpc-status", "8") + Field("grpc-message", ""));
  ASSERT_TRUE(later.has_value());
  EXPECT_EQ(later->code, 8);
  EXPECT_EQ(later->message, "");
}

TEST(BareTrailersTest, ReadsTheMessageAsItWasGiven) {
  const auto trailers = ReadBareTrailers(
      Field("grpc-status", "8") + Field("grpc-message", "100%25 caf%C3%A9 %"));
  ASSERT_TRUE(trailers.has_value());
  EXPECT_EQ(trailers->message, "100% caf\xc3\xa9 %");
}

TEST(BareTrailersTest, ReadsWhatItAppends) {
  for (const size_t size : {0, 126, 127, 128, 254, 255, 4000, 20'000}) {
    const std::string text(size, 'x');
    std::string block = Field("grpc-status", "8");
    AppendField("grpc-message", text, &block);
    const auto trailers = ReadBareTrailers(block);
    ASSERT_TRUE(trailers.has_value()) << size;
    EXPECT_EQ(trailers->message, text);
  }
}

TEST(BareTrailersTest, LeavesAllElseAlone) {
  const std::string status = Field("grpc-status", "8");
  const std::string message = Field("grpc-message", "sorry");
  const std::string huffman = {'\0', '\x8b'};
  std::string indexed = Refusal();
  indexed[0] = '\x40';
  for (const std::string& block :
       {std::string(), std::string("\x88"), status, message, message + status,
        Refusal() + Field("x-request-id", "7"),
        Field("grpc-status", "eight") + message,
        Field(":status", "200") + status + message,
        huffman + status.substr(2) + message, indexed}) {
    EXPECT_EQ(ReadBareTrailers(block), std::nullopt) << block;
  }
  // However it is cut short.
  for (size_t size = 0; size < Refusal().size(); ++size) {
    EXPECT_EQ(ReadBareTrailers(Refusal().substr(0, size)), std::nullopt);
  }
  // Lengths that no number holds.
  const std::string endless(12, '\xff');
  EXPECT_EQ(ReadBareTrailers(std::string("\0\x7f", 2) + endless), std::nullopt);
}

}  // namespace
}  // namespace ounce::server
