// A request's raw bytes: what the judge accepts, protobuf parses, into a
// message of no more than a few times its bytes; and what protobuf parses is
// not called malformed.
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/message.h>

#include <memory>
#include <string_view>

#include "base/check.h"
#include "ounce/v1/inference.pb.h"
#include "ounce/v1/model_admin.pb.h"
#include "server/service/message_judge.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ounce;
  static const google::protobuf::Message* const kRequests[] = {
      &v1::GenerateRequest::default_instance(),
      &v1::TokenizeRequest::default_instance(),
      &v1::DetokenizeRequest::default_instance(),
      &v1::DetectObjectsRequest::default_instance(),
      &v1::QuantizeRequest::default_instance(),
      &v1::EvaluateRequest::default_instance(),
      &v1::LoadModelRequest::default_instance(),
      &v1::ListModelsRequest::default_instance(),
      &v1::ListServedModelsRequest::default_instance(),
  };
  constexpr size_t kFixedBytes = size_t{1} << 20;
  constexpr int kLargestSlice = 64;
  if (size < 2) return 0;
  const google::protobuf::Message& request =
      *kRequests[data[0] % std::size(kRequests)];
  const int slice = 1 + data[1] % kLargestSlice;
  data += 2;
  size -= 2;
  google::protobuf::io::ArrayInputStream stream(data, static_cast<int>(size),
                                                slice);
  const absl::Status judged =
      server::JudgeMessage(&stream, size, *request.GetDescriptor());
  const std::unique_ptr<google::protobuf::Message> parsed(request.New());
  const bool parses = parsed->ParseFromArray(data, static_cast<int>(size));
  OUNCE_CHECK(!judged.ok() || parses, "what is accepted parses");
  OUNCE_CHECK(
      !parses || judged.message().find("malformed") == std::string_view::npos,
      "what parses is not malformed");
  OUNCE_CHECK(!judged.ok() || parsed->SpaceUsedLong() <= kFixedBytes + 4 * size,
              "what is accepted is small");
  return 0;
}
