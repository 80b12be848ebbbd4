#include "server/service/message_judge.h"

#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "inference/grpc_predict_v2.pb.h"
#include "ounce/v1/inference.pb.h"
#include "ounce/v1/model_admin.pb.h"
#include "server/service/request_limits.h"
#include "tests/testing/status_matchers.h"

namespace ounce::server {
namespace {

using ::google::protobuf::Descriptor;
using ::google::protobuf::FieldDescriptor;
using ::google::protobuf::Message;
using ::ounce::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

// In slices of so many bytes.
template <class Request>
absl::Status Judge(const std::string& bytes, int slice = 1 << 20) {
  google::protobuf::io::ArrayInputStream stream(
      bytes.data(), static_cast<int>(bytes.size()), slice);
  return JudgeMessage(&stream, bytes.size(), *Request::descriptor());
}

std::string Repeat(const std::string& part, int count) {
  std::string result;
  result.reserve(part.size() * count);
  for (int i = 0; i < count; ++i) result += part;
  return result;
}

v1::GenerateRequest Full() {
  v1::GenerateRequest request;
  request.set_model("code");
  request.set_prompt("grün");
  request.set_max_new_tokens(7);
  request.mutable_sampling()->set_temperature(0.5f);
  request.mutable_sampling()->set_seed(1ull << 63);
  for (int i = 0; i < 16; ++i) request.add_stop(std::string(256, 'x'));
  return request;
}

TEST(MessageJudgeTest, AcceptsARequestAtItsLimitsHoweverItIsSliced) {
  v1::GenerateRequest text = Full();
  text.set_prompt(std::string(1 << 20, 'x'));
  EXPECT_OK(Judge<v1::GenerateRequest>(text.SerializeAsString()));
  v1::GenerateRequest ids = Full();
  for (int i = 0; i < 65'536; ++i) {
    ids.mutable_prompt_token_ids()->add_ids(-i);
  }
  EXPECT_OK(Judge<v1::GenerateRequest>(ids.SerializeAsString()));
  for (int slice = 1; slice < 20; ++slice) {
    EXPECT_OK(Judge<v1::GenerateRequest>(Full().SerializeAsString(), slice));
  }
  EXPECT_OK(Judge<v1::GenerateRequest>(""));
}

TEST(MessageJudgeTest, NamesTheFieldThatHasTooManyElements) {
  // Two bytes each on the wire, and some forty in a message.
  const std::string stops = Repeat(std::string("\x32\0", 2), 1'000'000);
  EXPECT_THAT(Judge<v1::GenerateRequest>(stops),
              StatusIs(kInvalid,
                       "stop: must have at most 16 elements, has "
                       "more"));
  v1::DetokenizeRequest ids;
  for (int i = 0; i < 65'537; ++i) ids.add_token_ids(1);
  EXPECT_THAT(Judge<v1::DetokenizeRequest>(ids.SerializeAsString()),
              StatusIs(kInvalid, StartsWith("token_ids: must have at most "
                                            "65536 elements")));
  // One by one instead of packed.
  EXPECT_THAT(Judge<v1::DetokenizeRequest>(Repeat("\x10\x01", 65'537)),
              StatusIs(kInvalid, StartsWith("token_ids: ")));
  EXPECT_OK(Judge<v1::DetokenizeRequest>(Repeat("\x10\x01", 65'536)));
  // Spread over two occurrences of the message they are in.
  v1::GenerateRequest half;
  for (int i = 0; i < 40'000; ++i) half.mutable_prompt_token_ids()->add_ids(1);
  EXPECT_THAT(Judge<v1::GenerateRequest>(Repeat(half.SerializeAsString(), 2)),
              StatusIs(kInvalid, StartsWith("prompt_token_ids.ids: ")));
  v1::QuantizeRequest quantize;
  for (int i = 0; i < 65; ++i) quantize.add_pictures(std::string(1, 'p'));
  EXPECT_THAT(Judge<v1::QuantizeRequest>(quantize.SerializeAsString()),
              StatusIs(kInvalid, StartsWith("pictures: must have at most 64")));
}

TEST(MessageJudgeTest, NamesTheFieldThatIsTooLong) {
  v1::GenerateRequest request = Full();
  request.set_prompt(std::string((1 << 20) + 1, 'x'));
  EXPECT_THAT(
      Judge<v1::GenerateRequest>(request.SerializeAsString()),
      StatusIs(kInvalid, "prompt: must be at most 1048576 bytes, is 1048577"));
  request = Full();
  request.set_stop(3, std::string(257, 'x'));
  EXPECT_THAT(Judge<v1::GenerateRequest>(request.SerializeAsString()),
              StatusIs(kInvalid, "stop: must be at most 256 bytes, is 257"));
  v1::EvaluateRequest evaluate;
  evaluate.set_text(std::string(4 << 20, 'x'));
  EXPECT_OK(Judge<v1::EvaluateRequest>(evaluate.SerializeAsString()));
  evaluate.mutable_text()->push_back('x');
  EXPECT_THAT(
      Judge<v1::EvaluateRequest>(evaluate.SerializeAsString()),
      StatusIs(kInvalid, "text: must be at most 4194304 bytes, is 4194305"));
}

TEST(MessageJudgeTest, RefusesAFloodOfAFieldThatIsGivenOnce) {
  const std::string flood = Repeat(std::string("\x0a\x01x", 3), 17);
  EXPECT_THAT(Judge<v1::GenerateRequest>(flood),
              StatusIs(kInvalid, HasSubstr("model: must be given once")));
  EXPECT_OK(Judge<v1::GenerateRequest>(Repeat("\x0a\x01x", 16)));
}

TEST(MessageJudgeTest, CountsTheFieldsOfRepeatedMessagesTogether) {
  v1::EvaluateRequest request;
  for (int i = 0; i < 262'144; ++i) request.add_objects()->set_picture(1);
  EXPECT_OK(Judge<v1::EvaluateRequest>(request.SerializeAsString()));
  request.add_objects()->set_picture(1);
  EXPECT_THAT(Judge<v1::EvaluateRequest>(request.SerializeAsString()),
              StatusIs(kInvalid, HasSubstr("objects: must have at most")));
  // One object whose picture is given again and again.
  const std::string flood = Repeat(std::string("\x08\x01", 2), 262'145);
  std::string object = "\x3a";
  uint32_t size = flood.size();
  for (; size >= 0x80; size >>= 7) {
    object.push_back(static_cast<char>(size | 0x80));
  }
  object.push_back(static_cast<char>(size));
  EXPECT_THAT(Judge<v1::EvaluateRequest>(object + flood),
              StatusIs(kInvalid, HasSubstr("objects.picture: must be given")));
}

TEST(MessageJudgeTest, RefusesGroups) {
  for (const char* bytes : {"\x7b\x7c", "\x7c", "\x0b\x0c"}) {
    EXPECT_THAT(Judge<v1::GenerateRequest>(bytes),
                StatusIs(kInvalid, HasSubstr("protobuf group")));
  }
}

TEST(MessageJudgeTest, BoundsFieldsThatNobodyKnows) {
  const std::string small("\x78\x01", 2);  // field 15, a varint
  EXPECT_OK(Judge<v1::ListModelsRequest>(Repeat(small, 256)));
  EXPECT_THAT(Judge<v1::ListModelsRequest>(Repeat(small, 257)),
              StatusIs(kInvalid, HasSubstr("not part of "
                                           "ounce.v1.ListModelsRequest")));
  // The same of a field with another wire type than its own.
  EXPECT_THAT(Judge<v1::GenerateRequest>(Repeat("\x08\x01", 257)),
              StatusIs(kInvalid, HasSubstr("not part of")));
  // 70,000 bytes of field 15.
  std::string large("\x7a\xf0\xa2\x04", 4);
  large.append(70'000, 'x');
  EXPECT_THAT(Judge<v1::GenerateRequest>(large),
              StatusIs(kInvalid, HasSubstr("not part of")));
}

TEST(MessageJudgeTest, NamesTheFieldThatIsNotUtf8AndTheByte) {
  for (const int slice : {1, 3, 100}) {
    v1::GenerateRequest request;
    request.set_prompt("hello");
    std::string bytes = request.SerializeAsString();
    bytes[bytes.find("hello") + 2] = '\xff';
    EXPECT_THAT(Judge<v1::GenerateRequest>(bytes, slice),
                StatusIs(kInvalid,
                         "prompt: must be UTF-8; byte 2 of 5 is not "
                         "part of a character"));
  }
}

TEST(MessageJudgeTest, RefusesWhatIsNoMessage) {
  for (const std::string& bytes : {
           std::string("\x0a\x7ftiny"),                  // cut short
           std::string("\x0a\xff\xff\xff\xff\x0f"),      // 4 GiB
           std::string("\x0a\x80\x80\x80\x80\x80\x01"),  // length of 6 bytes
           std::string("\xff\xff\xff\xff\xff\xff\x01"),  // tag of 7 bytes
           std::string("\x02\x01x"),                     // field 0
           std::string("\x0e"),                          // wire type 6
           std::string("\x78\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
           std::string("\x2a\x03\x0d\0\0", 5),  // ends inside a message
       }) {
    EXPECT_THAT(Judge<v1::GenerateRequest>(bytes),
                StatusIs(kInvalid, HasSubstr("malformed at byte")));
  }
}

TEST(MessageJudgeTest, BoundsTheWholeRequest) {
  // Every field within its limits: a prompt that is given three times.
  v1::GenerateRequest request;
  request.set_prompt(std::string(1 << 20, 'x'));
  EXPECT_THAT(
      Judge<v1::GenerateRequest>(Repeat(request.SerializeAsString(), 3)),
      StatusIs(absl::StatusCode::kResourceExhausted,
               HasSubstr("must be at most 2097152 bytes, is 3145740")));
}

std::vector<const Descriptor*> Requests() {
  std::vector<const Descriptor*> requests;
  for (const google::protobuf::FileDescriptor* file :
       {v1::GenerateRequest::descriptor()->file(),
        v1::QuantizeRequest::descriptor()->file(),
        inference::ModelInferRequest::descriptor()->file()}) {
    for (int s = 0; s < file->service_count(); ++s) {
      for (int m = 0; m < file->service(s)->method_count(); ++m) {
        requests.push_back(file->service(s)->method(m)->input_type());
      }
    }
  }
  return requests;
}

void FindFieldsWithoutALimit(const Descriptor& type,
                             std::vector<std::string>* missing) {
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    const FieldLimit limit = LimitOf(field);
    if (field.is_repeated() && limit.max_elements == 0) {
      missing->push_back(field.full_name());
    }
    if (field.message_type() != nullptr) {
      FindFieldsWithoutALimit(*field.message_type(), missing);
    }
  }
}

TEST(MessageJudgeTest, EveryRepeatedFieldOfARequestHasALimit) {
  std::vector<std::string> missing;
  for (const Descriptor* type : Requests()) {
    FindFieldsWithoutALimit(*type, &missing);
  }
  EXPECT_THAT(missing, IsEmpty());
}

TEST(MessageJudgeTest, EveryLimitIsThatOfAFieldThereIs) {
  for (const FieldLimit& limit : FieldLimits()) {
    int found = 0;
    for (const char* package : {"ounce.v1.", "inference."}) {
      found +=
          google::protobuf::DescriptorPool::generated_pool()->FindFieldByName(
              absl::StrCat(package, std::string(limit.field))) != nullptr;
    }
    EXPECT_EQ(found, 1) << limit.field;
  }
}

// The slow, obvious reference is protobuf itself.
TEST(MessageJudgeTest, AgreesWithProtobufOnWhatIsAMessage) {
  std::mt19937 random(1);
  const auto number = [&](size_t end) {
    return std::uniform_int_distribution<size_t>(0, end - 1)(random);
  };
  v1::GenerateRequest small = Full();
  small.clear_stop();
  small.add_stop(std::string(1, 'a'));
  v1::GenerateRequest ids = small;
  for (int i = -3; i < 3; ++i) ids.mutable_prompt_token_ids()->add_ids(i);
  const std::vector<std::string> seeds = {small.SerializeAsString(),
                                          ids.SerializeAsString()};
  int accepted = 0;
  for (int round = 0; round < 100'000; ++round) {
    std::string bytes = seeds[number(seeds.size())];
    for (size_t changes = 1 + number(3); changes > 0; --changes) {
      switch (number(3)) {
        case 0:
          bytes[number(bytes.size())] = static_cast<char>(number(256));
          break;
        case 1:
          bytes.insert(number(bytes.size()), 1, static_cast<char>(number(256)));
          break;
        default:
          if (bytes.size() > 1) bytes.erase(number(bytes.size()), 1);
      }
    }
    v1::GenerateRequest parsed;
    const bool parses = parsed.ParseFromString(bytes);
    const absl::Status judged =
        Judge<v1::GenerateRequest>(bytes, 1 + static_cast<int>(number(8)));
    if (judged.ok()) {
      ++accepted;
      ASSERT_TRUE(parses) << absl::CHexEscape(bytes);
    }
    if (parses) {
      ASSERT_THAT(std::string(judged.message()),
                  ::testing::Not(HasSubstr("malformed")))
          << absl::CHexEscape(bytes);
    }
  }
  EXPECT_GT(accepted, 10'000);
}

}  // namespace
}  // namespace ounce::server
