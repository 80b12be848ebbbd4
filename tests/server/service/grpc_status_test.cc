#include "server/service/grpc_status.h"

#include <grpcpp/support/error_details.h>

#include <string>

#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "model/tokenizer/tokenizer.h"
#include "server/scheduler/retry.h"

namespace ounce::server {
namespace {

using ::testing::EndsWith;

TEST(GrpcStatusTest, KeepsCodeAndMessage) {
  for (int code = 1; code <= 16; ++code) {
    const grpc::Status status =
        ToGrpcStatus(absl::Status(static_cast<absl::StatusCode>(code), "why"));
    EXPECT_EQ(static_cast<int>(status.error_code()), code);
    EXPECT_EQ(status.error_message(), "why");
    EXPECT_EQ(status.error_details(), "");
  }
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
}

TEST(GrpcStatusTest, NamesTheFieldAndWhenToRetry) {
  const grpc::Status status = ToGrpcStatus(WithRetryDelay(
      FieldError("sampling.top_p", "0 to 1 wanted"), absl::Milliseconds(1500)));
  EXPECT_EQ(status.error_message(), "sampling.top_p: 0 to 1 wanted");
  google::rpc::Status details;
  ASSERT_TRUE(grpc::ExtractErrorDetails(status, &details).ok());
  EXPECT_EQ(details.code(), 3);
  EXPECT_EQ(details.message(), status.error_message());
  ASSERT_EQ(details.details_size(), 2);
  google::rpc::BadRequest bad_request;
  google::rpc::RetryInfo retry;
  for (const auto& detail : details.details()) {
    EXPECT_TRUE(detail.UnpackTo(&bad_request) || detail.UnpackTo(&retry));
  }
  ASSERT_EQ(bad_request.field_violations_size(), 1);
  EXPECT_EQ(bad_request.field_violations(0).field(), "sampling.top_p");
  EXPECT_EQ(bad_request.field_violations(0).description(), "0 to 1 wanted");
  EXPECT_EQ(retry.retry_delay().seconds(), 1);
  EXPECT_EQ(retry.retry_delay().nanos(), 500'000'000);
}

TEST(GrpcStatusTest, TellsClientsWhichRefusalsPass) {
  const absl::Status never = absl::ResourceExhaustedError("too large");
  EXPECT_EQ(WithRetryInfo(never), never);
  const grpc::Status full = ToGrpcStatus(WithRetryInfo(FullForNow("full")));
  EXPECT_EQ(full.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(full.error_message(), "full");
  google::rpc::Status details;
  ASSERT_TRUE(grpc::ExtractErrorDetails(full, &details).ok());
  // The scheduler's own word for it stays inside.
  ASSERT_EQ(details.details_size(), 1);
  google::rpc::RetryInfo retry;
  ASSERT_TRUE(details.details(0).UnpackTo(&retry));
  EXPECT_EQ(retry.retry_delay().seconds(), 1);
}

TEST(GrpcStatusTest, CutsLongMessagesSoThatTrailersFit) {
  const grpc::Status status =
      ToGrpcStatus(FieldError("name", std::string(100'000, '%')));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), EndsWith(" ..."));
  // Percent-encoded message and base64 of the details, of 8 KiB.
  EXPECT_LT(
      3 * status.error_message().size() + 4 * status.error_details().size() / 3,
      size_t{8000});
}

TEST(GrpcStatusTest, ReplacesBytesThatAreNotUtf8) {
  const grpc::Status status =
      ToGrpcStatus(absl::NotFoundError("file 'a\xff\xfe' of \xc3\xa4"));
  EXPECT_EQ(status.error_message(), "file 'a?\?' of \xc3\xa4");
  // Cut in the middle of a character.
  std::string text = "x";
  while (text.size() < 3000) text += "\xc3\xa4";
  const std::string cut =
      ToGrpcStatus(absl::NotFoundError(text)).error_message();
  EXPECT_EQ(model::ValidUtf8Prefix(cut), cut.size());
}

}  // namespace
}  // namespace ounce::server
