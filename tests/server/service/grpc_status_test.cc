#include "server/service/grpc_status.h"

#include <grpcpp/support/error_details.h>

#include <optional>
#include <string>

#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "model/tokenizer/tokenizer.h"

namespace ounce::server {
namespace {

using ::testing::EndsWith;

google::rpc::Status DetailsOf(const grpc::Status& status) {
  google::rpc::Status details;
  EXPECT_TRUE(grpc::ExtractErrorDetails(status, &details).ok());
  return details;
}

// The detail of type Detail, if there is one.
template <class Detail>
std::optional<Detail> DetailOf(const grpc::Status& status) {
  const google::rpc::Status details = DetailsOf(status);
  for (const auto& any : details.details()) {
    Detail detail;
    if (any.UnpackTo(&detail)) return detail;
  }
  return std::nullopt;
}

TEST(GrpcStatusTest, KeepsCodeAndMessageAndHasAReason) {
  for (int code = 1; code <= 16; ++code) {
    const grpc::Status status =
        ToGrpcStatus(absl::Status(static_cast<absl::StatusCode>(code), "why"));
    EXPECT_EQ(static_cast<int>(status.error_code()), code);
    EXPECT_EQ(status.error_message(), "why");
    const auto info = DetailOf<google::rpc::ErrorInfo>(status);
    ASSERT_TRUE(info.has_value());
    EXPECT_EQ(info->reason(),
              absl::StatusCodeToString(static_cast<absl::StatusCode>(code)));
    EXPECT_EQ(info->domain(), "ounce");
    EXPECT_EQ(DetailsOf(status).details_size(), 1);
  }
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
}

TEST(GrpcStatusTest, NamesTheField) {
  const grpc::Status status =
      ToGrpcStatus(FieldError("sampling.top_p", "0 to 1 wanted"));
  EXPECT_EQ(status.error_message(), "sampling.top_p: 0 to 1 wanted");
  EXPECT_EQ(DetailsOf(status).code(), 3);
  EXPECT_EQ(DetailsOf(status).message(), status.error_message());
  EXPECT_EQ(DetailOf<google::rpc::ErrorInfo>(status)->reason(),
            "FIELD_INVALID");
  const auto bad_request = DetailOf<google::rpc::BadRequest>(status);
  ASSERT_TRUE(bad_request.has_value());
  ASSERT_EQ(bad_request->field_violations_size(), 1);
  EXPECT_EQ(bad_request->field_violations(0).field(), "sampling.top_p");
  EXPECT_EQ(bad_request->field_violations(0).description(), "0 to 1 wanted");
  EXPECT_FALSE(DetailOf<google::rpc::RetryInfo>(status).has_value());
}

TEST(GrpcStatusTest, TellsWhoseLimitItIsAndWhenToComeBack) {
  const grpc::Status full =
      ToGrpcStatus(Refusal(Reason::kWorkersBusy, "full for now"));
  EXPECT_EQ(full.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(full.error_message(), "full for now");
  EXPECT_EQ(DetailOf<google::rpc::ErrorInfo>(full)->reason(), "WORKERS_BUSY");
  const auto quota = DetailOf<google::rpc::QuotaFailure>(full);
  ASSERT_TRUE(quota.has_value());
  EXPECT_EQ(quota->violations(0).subject(), "server");
  EXPECT_EQ(quota->violations(0).description(), "full for now");
  const auto retry = DetailOf<google::rpc::RetryInfo>(full);
  ASSERT_TRUE(retry.has_value());
  EXPECT_EQ(retry->retry_delay().seconds(), 0);
  EXPECT_EQ(retry->retry_delay().nanos(), 200'000'000);
  EXPECT_FALSE(DetailOf<google::rpc::RetryInfo>(
                   ToGrpcStatus(Refusal(Reason::kMemoryTooSmall, "never")))
                   .has_value());
}

TEST(GrpcStatusTest, NamesTheModel) {
  const grpc::Status busy =
      ToGrpcStatus(AboutModel(Refusal(Reason::kModelBusy, "busy"), "code"));
  const auto resource = DetailOf<google::rpc::ResourceInfo>(busy);
  ASSERT_TRUE(resource.has_value());
  EXPECT_EQ(resource->resource_type(), "ounce.v1.Model");
  EXPECT_EQ(resource->resource_name(), "code");
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
