#include "server/service/inference_service.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/impl/codegen/client_unary_call.h>
#include <grpcpp/impl/codegen/proto_utils.h>

#include <cmath>
#include <limits>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "tests/server/service/service_fixture.h"

namespace ounce {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

class InferenceServiceTest : public testing::ServiceTest {
 protected:
  // A unary-looking call of a method with bytes of our own making.
  grpc::Status CallRaw(const std::string& method, const std::string& bytes) {
    grpc::Slice slice(bytes);
    grpc::ByteBuffer request(&slice, 1);
    grpc::ByteBuffer response;
    grpc::ClientContext context;
    const grpc::internal::RpcMethod rpc(method.c_str(),
                                        grpc::internal::RpcMethod::NORMAL_RPC);
    return grpc::internal::BlockingUnaryCall(channel_.get(), rpc, &context,
                                             request, &response);
  }
};

TEST_F(InferenceServiceTest, StreamsWhatTheSchedulerSaysAndEndsWithUsage) {
  v1::GenerateRequest request = Request("tiny", "hello", 7);
  const Answer answer = Generate(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.text(), "abcabca");
  const v1::GenerateResponse& last = answer.messages.back();
  EXPECT_EQ(last.finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(last.usage().prompt_tokens(), 5);
  EXPECT_EQ(last.usage().cached_tokens(), 1);
  EXPECT_EQ(last.usage().new_tokens(), 7);
  EXPECT_DOUBLE_EQ(last.usage().time_to_first_token_seconds(), 0.001);
  EXPECT_EQ(last.model_version(), 3);
  EXPECT_EQ(last.method(), "float32");
  EXPECT_FALSE(last.has_seed()) << "greedy";
  for (size_t i = 0; i + 1 < answer.messages.size(); ++i) {
    EXPECT_EQ(answer.messages[i].finish_reason(),
              v1::FINISH_REASON_UNSPECIFIED);
    EXPECT_FALSE(answer.messages[i].has_usage());
  }
}

TEST_F(InferenceServiceTest, PassesEveryFieldOnAndDrawsASeed) {
  v1::GenerateRequest request = Request("tiny", "ab", 3);
  v1::Sampling* sampling = request.mutable_sampling();
  sampling->set_temperature(0.5f);
  sampling->set_top_k(7);
  sampling->set_top_p(0.9f);
  sampling->set_min_p(0.1f);
  sampling->set_repetition_penalty(1.5f);
  request.add_stop("x");
  request.set_logprobs(2);
  const Answer answer = Generate(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.messages.back().seed(), 42u);
  size_t num_logprobs = 0;
  for (const auto& message : answer.messages) {
    num_logprobs += message.logprobs_size();
  }
  EXPECT_EQ(num_logprobs, 3u);
  const auto submitted = catalog_.scheduler("tiny").submitted();
  ASSERT_THAT(submitted, SizeIs(1));
  const server::GenerateParams& params = submitted[0];
  EXPECT_THAT(params.prompt, ElementsAre('a', 'b'));
  EXPECT_EQ(params.max_new_tokens, 3);
  EXPECT_EQ(params.sampling.temperature, 0.5f);
  EXPECT_EQ(params.sampling.top_k, 7);
  EXPECT_EQ(params.sampling.top_p, 0.9f);
  EXPECT_EQ(params.sampling.min_p, 0.1f);
  EXPECT_EQ(params.sampling.repetition_penalty, 1.5f);
  EXPECT_EQ(params.sampling.seed, 42u);
  EXPECT_THAT(params.stop, ElementsAre("x"));
  EXPECT_EQ(params.num_logprobs, 2);
  EXPECT_EQ(params.deadline, absl::InfiniteFuture());
}

TEST_F(InferenceServiceTest, DefaultsAreThoseOfTheContract) {
  const Answer answer = Generate(Request("long", "a"));
  ASSERT_TRUE(answer.status.ok());
  const auto submitted = catalog_.scheduler("long").submitted();
  ASSERT_THAT(submitted, SizeIs(1));
  EXPECT_EQ(submitted[0].max_new_tokens, 256);
  EXPECT_EQ(submitted[0].sampling.top_p, 1.0f);
  EXPECT_EQ(submitted[0].sampling.repetition_penalty, 1.0f);
  EXPECT_EQ(submitted[0].sampling.temperature, 0.0f);
}

// "Recommended" by a generation_config.json.
model::GenerationDefaults Recommended() {
  model::GenerationDefaults defaults;
  defaults.temperature = 0.6f;
  defaults.top_k = 20;
  defaults.top_p = 0.9f;
  defaults.min_p = 0.05f;
  defaults.repetition_penalty = 1.1f;
  defaults.max_new_tokens = 30;
  return defaults;
}

// Every field set, as a request could have it.
v1::Sampling AllFields(float temperature, uint32_t top_k, float top_p,
                       float min_p, float repetition_penalty) {
  v1::Sampling sampling;
  sampling.set_temperature(temperature);
  sampling.set_top_k(top_k);
  sampling.set_top_p(top_p);
  sampling.set_min_p(min_p);
  sampling.set_repetition_penalty(repetition_penalty);
  return sampling;
}

TEST_F(InferenceServiceTest, TakesTheModelsDefaultsForWhatIsNotSaid) {
  catalog_.defaults("long") = Recommended();
  v1::GenerateRequest request = Request("long", "a");
  request.clear_max_new_tokens();
  v1::Sampling wanted = AllFields(0.6f, 20, 0.9f, 0.05f, 1.1f);
  wanted.set_seed(42);

  const Answer silent = Generate(request);
  ASSERT_TRUE(silent.status.ok()) << silent.status.error_message();
  const v1::GenerateResponse& last = silent.messages.back();
  EXPECT_EQ(last.sampling().DebugString(), wanted.DebugString());
  EXPECT_EQ(last.seed(), 42u);
  EXPECT_EQ(last.max_new_tokens(), 30u);
  EXPECT_EQ(last.usage().new_tokens(), 30);
  for (size_t i = 0; i + 1 < silent.messages.size(); ++i) {
    EXPECT_FALSE(silent.messages[i].has_sampling());
    EXPECT_EQ(silent.messages[i].max_new_tokens(), 0u);
  }

  // Field by field.
  request.mutable_sampling()->set_top_p(0.5f);
  wanted.set_top_p(0.5f);
  const Answer partly = Generate(request);
  EXPECT_EQ(partly.messages.back().sampling().DebugString(),
            wanted.DebugString());

  const auto submitted = catalog_.scheduler("long").submitted();
  ASSERT_THAT(submitted, SizeIs(2));
  EXPECT_EQ(submitted[0].max_new_tokens, 30);
  EXPECT_EQ(submitted[0].sampling.temperature, 0.6f);
  EXPECT_EQ(submitted[0].sampling.top_k, 20);
  EXPECT_EQ(submitted[0].sampling.top_p, 0.9f);
  EXPECT_EQ(submitted[0].sampling.min_p, 0.05f);
  EXPECT_EQ(submitted[0].sampling.repetition_penalty, 1.1f);
}

TEST_F(InferenceServiceTest, TakesAZeroForWhatItAlwaysMeant) {
  catalog_.defaults("long") = Recommended();
  v1::GenerateRequest request = Request("long", "a");
  request.set_max_new_tokens(0);
  *request.mutable_sampling() = AllFields(0, 0, 0, 0, 0);
  const Answer answer = Generate(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  const v1::GenerateResponse& last = answer.messages.back();
  EXPECT_EQ(last.sampling().DebugString(),
            AllFields(0, 0, 1, 0, 1).DebugString());
  EXPECT_FALSE(last.has_seed());
  EXPECT_EQ(last.max_new_tokens(), 256u);
}

TEST_F(InferenceServiceTest, TakesMaxLengthForPromptAndNewTokens) {
  catalog_.defaults("long").max_length = 12;
  v1::GenerateRequest request = Request("long", "0123456");
  request.clear_max_new_tokens();
  EXPECT_EQ(Generate(request).messages.back().max_new_tokens(), 5u);
  request.set_prompt("0123456789ab");
  const Answer none = Generate(request);
  EXPECT_EQ(none.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(none.status.error_message(),
            "max_new_tokens: is missing, and the model's max_length of 12 "
            "leaves none after a prompt of 12 tokens; say how many");
  request.set_max_new_tokens(3);
  EXPECT_EQ(Generate(request).messages.back().max_new_tokens(), 3u);
}

TEST_F(InferenceServiceTest, HoldsTheModelsMaxNewTokensToTheServersCap) {
  catalog_.defaults("long").max_new_tokens = 9'000'000;
  catalog_.scheduler("long").Refuse(absl::UnavailableError("seen enough"));
  v1::GenerateRequest request = Request("long", "a");
  request.clear_max_new_tokens();
  (void)Generate(request);
  const auto submitted = catalog_.scheduler("long").submitted();
  ASSERT_THAT(submitted, SizeIs(1));
  EXPECT_EQ(submitted[0].max_new_tokens, 999'999) << "1,000,000 positions";
  catalog_.defaults("tiny").max_new_tokens = 9'000'000;
  request.set_model("tiny");
  EXPECT_EQ(Generate(request).messages.back().usage().new_tokens(), 63);
}

TEST_F(InferenceServiceTest, StopsAtTheSpecialTokenThatAStopStringNames) {
  v1::GenerateRequest request = Request("tiny", "a", 2);
  for (const char* stop : {"x", "<|end|>", "<|end|>\n"}) {
    request.add_stop(stop);
  }
  ASSERT_TRUE(Generate(request).status.ok());
  const auto submitted = catalog_.scheduler("tiny").submitted();
  ASSERT_THAT(submitted, SizeIs(1));
  EXPECT_THAT(submitted[0].stop_token_ids, ElementsAre(1));
  // Ordinary tokens may spell it too.
  EXPECT_THAT(submitted[0].stop, ElementsAre("x", "<|end|>", "<|end|>\n"));
}

TEST_F(InferenceServiceTest, GivesAsManyTokensAsThePositionsHold) {
  const Answer answer = Generate(Request("tiny", "0123456789", 1000));
  ASSERT_TRUE(answer.status.ok());
  EXPECT_EQ(answer.messages.back().usage().new_tokens(), 54);
}

struct BadField {
  std::string what;
  std::function<void(v1::GenerateRequest*)> spoil;
  grpc::StatusCode code;
  std::string message;  // part of it
  std::string field;    // that BadRequest names; empty: no details
};

TEST_F(InferenceServiceTest, RefusesEachBadFieldWithItsNameAndWhatWasWanted) {
  const float nan = std::nanf("");
  const float infinity = std::numeric_limits<float>::infinity();
  const auto kInvalid = grpc::StatusCode::INVALID_ARGUMENT;
  const std::vector<BadField> cases = {
      {"no model", [](auto* r) { r->clear_model(); }, kInvalid, "model",
       "model"},
      {"unknown model", [](auto* r) { r->set_model("other"); },
       grpc::StatusCode::NOT_FOUND,
       "no model 'other'; served: detr, long, tiny", ""},
      {"no prompt", [](auto* r) { r->clear_prompt(); }, kInvalid,
       "is missing, and so is prompt_token_ids", "prompt"},
      {"empty prompt", [](auto* r) { r->set_prompt(""); }, kInvalid,
       "prompt: is empty", "prompt"},
      {"no ids", [](auto* r) { r->mutable_prompt_token_ids(); }, kInvalid,
       "is empty", "prompt_token_ids.ids"},
      {"prompt of 64 tokens, no room for another",
       [](auto* r) { r->set_prompt(std::string(64, 'x')); }, kInvalid,
       "must be at most 63 tokens, is 64", "prompt"},
      {"many ids",
       [](auto* r) {
         for (int i = 0; i < 100; ++i) {
           r->mutable_prompt_token_ids()->add_ids(1);
         }
       },
       kInvalid, "must be at most 63 tokens, is 100", "prompt_token_ids.ids"},
      {"prompt above 1 MiB",
       [](auto* r) { r->set_prompt(std::string((1 << 20) + 1, 'x')); },
       kInvalid, "must be at most 1048576 bytes, is 1048577", "prompt"},
      {"id too large",
       [](auto* r) {
         r->mutable_prompt_token_ids()->add_ids(1);
         r->mutable_prompt_token_ids()->add_ids(256);
       },
       kInvalid, "must be from 0 to 255, is 256", "prompt_token_ids.ids[1]"},
      {"negative id",
       [](auto* r) { r->mutable_prompt_token_ids()->add_ids(-1); }, kInvalid,
       "must be from 0 to 255, is -1", "prompt_token_ids.ids[0]"},
      {"huge max_new_tokens",
       [](auto* r) { r->set_max_new_tokens(4294967295u); }, kInvalid,
       "must be at most 1000000, is 4294967295", "max_new_tokens"},
      {"NaN temperature",
       [=](auto* r) { r->mutable_sampling()->set_temperature(nan); }, kInvalid,
       "must be from 0 to 100, is nan", "sampling.temperature"},
      {"infinite temperature",
       [=](auto* r) { r->mutable_sampling()->set_temperature(infinity); },
       kInvalid, "must be from 0 to 100, is inf", "sampling.temperature"},
      {"negative temperature",
       [](auto* r) { r->mutable_sampling()->set_temperature(-1); }, kInvalid,
       "must be from 0 to 100, is -1", "sampling.temperature"},
      {"huge top_k",
       [](auto* r) { r->mutable_sampling()->set_top_k(4294967295u); }, kInvalid,
       "must be at most 1000000", "sampling.top_k"},
      {"top_p above 1", [](auto* r) { r->mutable_sampling()->set_top_p(1.5f); },
       kInvalid, "must be from 0 to 1, is 1.5", "sampling.top_p"},
      {"NaN top_p", [=](auto* r) { r->mutable_sampling()->set_top_p(nan); },
       kInvalid, "is nan", "sampling.top_p"},
      {"negative min_p",
       [](auto* r) { r->mutable_sampling()->set_min_p(-0.5f); }, kInvalid,
       "must be from 0 to 1, is -0.5", "sampling.min_p"},
      {"NaN repetition_penalty",
       [=](auto* r) { r->mutable_sampling()->set_repetition_penalty(nan); },
       kInvalid, "must be from 0.01 to 100, is nan",
       "sampling.repetition_penalty"},
      {"negative repetition_penalty",
       [](auto* r) { r->mutable_sampling()->set_repetition_penalty(-1); },
       kInvalid, "is -1", "sampling.repetition_penalty"},
      {"many stop strings",
       [](auto* r) {
         for (int i = 0; i < 17; ++i) r->add_stop(std::string(1, 'x'));
       },
       kInvalid, "must have at most 16 elements", "stop"},
      {"empty stop string",
       [](auto* r) {
         r->add_stop(std::string(1, 'x'));
         r->add_stop(std::string());
       },
       kInvalid, "is empty", "stop[1]"},
      {"long stop string", [](auto* r) { r->add_stop(std::string(257, 'x')); },
       kInvalid, "must be at most 256 bytes, is 257", "stop"},
      {"many logprobs", [](auto* r) { r->set_logprobs(21); }, kInvalid,
       "must be at most 20, is 21", "logprobs"},
  };
  for (const BadField& bad : cases) {
    SCOPED_TRACE(bad.what);
    v1::GenerateRequest request = Request("tiny", "hello", 5);
    bad.spoil(&request);
    const Answer answer = Generate(request);
    EXPECT_EQ(answer.status.error_code(), bad.code);
    EXPECT_THAT(answer.status.error_message(), HasSubstr(bad.message));
    const auto details = DetailOf<google::rpc::BadRequest>(answer.status);
    ASSERT_EQ(details.has_value(), !bad.field.empty());
    if (details.has_value()) {
      ASSERT_EQ(details->field_violations_size(), 1);
      EXPECT_EQ(details->field_violations(0).field(), bad.field);
    }
    EXPECT_THAT(answer.messages, SizeIs(0));
  }
  EXPECT_THAT(rejected(), SizeIs(cases.size())) << "each is counted once";
  EXPECT_THAT(catalog_.scheduler("tiny").submitted(), SizeIs(0));
  EXPECT_TRUE(Generate(Request("tiny", "hello", 5)).status.ok())
      << "the server goes on";
}

TEST_F(InferenceServiceTest, NamesTheFieldThatIsNotUtf8) {
  v1::GenerateRequest request = Request("tiny", "hello", 5);
  std::string bytes = request.SerializeAsString();
  bytes[bytes.find("hello") + 2] = '\xff';
  const grpc::Status status = CallRaw("/ounce.v1.Inference/Generate", bytes);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(),
              AllOf(HasSubstr("prompt: must be UTF-8"), HasSubstr("byte 2")));
  const auto details = DetailOf<google::rpc::BadRequest>(status);
  ASSERT_TRUE(details.has_value());
  EXPECT_EQ(details->field_violations(0).field(), "prompt");
}

TEST_F(InferenceServiceTest, NamesTheFieldThatIsNotUtf8InEveryMethod) {
  for (const std::string method : {"Tokenize", "Detokenize"}) {
    const grpc::Status status =
        CallRaw(absl::StrCat("/ounce.v1.Inference/", method),
                std::string("\x0a\x02\xc3\x28", 4));
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(status.error_message(), HasSubstr("model: must be UTF-8"));
  }
}

TEST_F(InferenceServiceTest, RefusesBytesThatAreNoMessage) {
  const grpc::Status status =
      CallRaw("/ounce.v1.Inference/Generate", std::string("\x0a\x7ftiny", 6));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(),
              HasSubstr("not a serialized ounce.v1.GenerateRequest"));
}

TEST_F(InferenceServiceTest, RefusesAMessageOf10MegabytesUnread) {
  const Answer answer =
      Generate(Request("tiny", std::string(10'000'000, 'x'), 5));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("4194304"));
  EXPECT_TRUE(Generate(Request("tiny", "hello", 5)).status.ok());
}

TEST_F(InferenceServiceTest, AnswersALongPromptFromAnotherThread) {
  const Answer answer = Generate(Request("long", std::string(500'000, 'x'), 5));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.messages.back().usage().prompt_tokens(), 500'000);
}

TEST_F(InferenceServiceTest, SaysWhenToComeBackWhileAModelLoads) {
  const Answer answer = Generate(Request("loading", "a"));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_TRUE(DetailOf<google::rpc::RetryInfo>(answer.status).has_value());
}

TEST_F(InferenceServiceTest, TellsNobodyToComeBackToAServerThatStops) {
  front_end_->Stop();
  const Answer answer = Generate(Request("loading", "a"));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_FALSE(DetailOf<google::rpc::RetryInfo>(answer.status).has_value());
}

TEST_F(InferenceServiceTest, LeavesATextThatNobodyWaitsForAnyMore) {
  testing::ByteTokenizer& tokenizer = catalog_.tokenizer("long");
  const std::string text(100'000, 'x');
  v1::TokenizeRequest request;
  request.set_model("long");
  request.set_text(text);
  const auto tokenize = [&](grpc::ClientContext* context) {
    v1::TokenizeResponse response;
    return inference_->Tokenize(context, request, &response);
  };
  tokenizer.Hold(true);
  grpc::ClientContext no_hurry;
  grpc::Status first;
  std::thread thread([&] { first = tokenize(&no_hurry); });
  ASSERT_TRUE(WaitUntil([&] { return tokenizer.num_encoded() == 1; }));
  // These wait behind it until their clients are gone.
  const auto soon = [] {
    return absl::ToChronoTime(absl::Now() + absl::Milliseconds(100));
  };
  grpc::ClientContext late, late_prompt, cancelled;
  late.set_deadline(soon());
  EXPECT_EQ(tokenize(&late).error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  late_prompt.set_deadline(soon());
  const auto late_reader =
      inference_->Generate(&late_prompt, Request("long", text, 1));
  EXPECT_EQ(late_reader->Finish().error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  const auto reader =
      inference_->Generate(&cancelled, Request("long", text, 1));
  absl::SleepFor(absl::Milliseconds(100));  // for it to arrive
  cancelled.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  absl::SleepFor(absl::Milliseconds(100));  // for that to arrive
  tokenizer.Hold(false);
  thread.join();
  EXPECT_TRUE(first.ok()) << first.error_message();
  grpc::ClientContext last;
  EXPECT_TRUE(tokenize(&last).ok());
  EXPECT_EQ(tokenizer.num_encoded(), 2) << "the first and the last";
  EXPECT_THAT(catalog_.scheduler("long").submitted(), SizeIs(0));
  EXPECT_THAT(rejected(), ElementsAre("long", "long"));
}

TEST_F(InferenceServiceTest, SaysWhenToComeBackWhenTheQueueIsFull) {
  catalog_.scheduler("tiny").Refuse(
      absl::ResourceExhaustedError("256 requests wait already"));
  const Answer answer = Generate(Request("tiny", "a"));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("256 requests"));
  EXPECT_THAT(rejected(), ElementsAre("tiny"));
}

TEST_F(InferenceServiceTest, CancelsTheWorkWhenTheClientIsGone) {
  catalog_.scheduler("long").SetStep(absl::Milliseconds(1));
  grpc::ClientContext context;
  auto reader = inference_->Generate(&context, Request("long", "a", 100'000));
  v1::GenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  context.TryCancel();
  while (reader->Read(&message)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(
      WaitUntil([&] { return catalog_.scheduler("long").num_done() == 1; }));
  EXPECT_EQ(catalog_.scheduler("long").num_cancels(), 1);
}

TEST_F(InferenceServiceTest, EndsTheWorkWhenTheDeadlinePasses) {
  catalog_.scheduler("long").SetStep(absl::Milliseconds(1));
  grpc::ClientContext context;
  const absl::Time deadline = absl::Now() + absl::Milliseconds(200);
  context.set_deadline(absl::ToChronoTime(deadline));
  auto reader = inference_->Generate(&context, Request("long", "a", 100'000));
  v1::GenerateResponse message;
  while (reader->Read(&message)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(
      WaitUntil([&] { return catalog_.scheduler("long").num_done() == 1; }));
  const auto submitted = catalog_.scheduler("long").submitted();
  ASSERT_THAT(submitted, SizeIs(1));
  EXPECT_LT(absl::AbsDuration(submitted[0].deadline - deadline),
            absl::Milliseconds(100));
}

TEST_F(InferenceServiceTest, ASlowReaderHoldsBackItsOwnSequenceOnly) {
  testing::FakeScheduler& scheduler = catalog_.scheduler("long");
  // A client that takes 64 KiB of a stream unread, and not whatever it could.
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 64 << 10);
  const auto slow = v1::Inference::NewStub(
      grpc::CreateCustomChannel(listeners_->inference_address(),
                                grpc::InsecureChannelCredentials(), arguments));
  grpc::ClientContext context;
  auto reader = slow->Generate(&context, Request("long", "a", 900'000));
  // It stops growing, well before its end.
  int64_t tokens = -1;
  ASSERT_TRUE(WaitUntil([&] {
    const int64_t before = std::exchange(tokens, scheduler.num_tokens(1));
    absl::SleepFor(absl::Milliseconds(100));
    return tokens > 0 && tokens == before;
  }));
  EXPECT_LT(tokens, 900'000);
  // Meanwhile another one is served.
  EXPECT_EQ(Generate(Request("long", "b", 5)).text(), "abcab");
  // And nothing is lost once it reads.
  std::string text;
  v1::GenerateResponse message;
  while (reader->Read(&message)) text += message.text();
  EXPECT_TRUE(reader->Finish().ok());
  ASSERT_EQ(text.size(), 900'000u);
  for (size_t i = 0; i < text.size(); ++i) {
    ASSERT_EQ(text[i], static_cast<char>('a' + i % 3)) << i;
  }
}

TEST_F(InferenceServiceTest, WithoutMemoryEndsTheCallAndNothingElse) {
  testing::ByteTokenizer& tokenizer = catalog_.tokenizer("long");
  tokenizer.RunOutOfMemory(true);
  const auto expect_refused = [](const grpc::Status& status) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_EQ(status.error_message(), "out of memory");
  };
  // On gRPC's thread and on one of the service's own.
  const auto tokenize = [&](size_t bytes) {
    v1::TokenizeRequest request;
    request.set_model("long");
    request.set_text(std::string(bytes, 'x'));
    v1::TokenizeResponse response;
    grpc::ClientContext context;
    return inference_->Tokenize(&context, request, &response);
  };
  for (const size_t bytes : {size_t{10}, size_t{100'000}}) {
    expect_refused(
        Generate(Request("long", std::string(bytes, 'x'), 1)).status);
    expect_refused(tokenize(bytes));
  }
  EXPECT_THAT(rejections(), ElementsAre("long RESOURCE_EXHAUSTED",
                                        "long RESOURCE_EXHAUSTED"));
  const absl::Time start = absl::Now();
  front_end_->Drain(start + absl::Minutes(2));
  EXPECT_LT(absl::Now() - start, absl::Minutes(1)) << "no call is left over";
  tokenizer.RunOutOfMemory(false);
  EXPECT_EQ(Generate(Request("long", "x", 3)).text(), "abc");
  EXPECT_TRUE(tokenize(100'000).ok());
}

TEST_F(InferenceServiceTest, ACallThatEndsBeforeItsMessageIsCancelled) {
  grpc::GenericStub stub(channel_);
  const auto end = [&](const std::string& method) {
    grpc::CompletionQueue queue;
    const auto await = [&] {
      void* tag;
      bool ok;
      EXPECT_TRUE(queue.Next(&tag, &ok));
    };
    grpc::ClientContext context;
    const auto call = stub.PrepareCall(&context, method, &queue);
    call->StartCall(nullptr);
    await();
    call->WritesDone(nullptr);
    await();
    grpc::Status status;
    call->Finish(&status, nullptr);
    await();
    return status;
  };
  for (const char* method : {"Generate", "Tokenize", "DetectObjects"}) {
    EXPECT_EQ(end(absl::StrCat("/ounce.v1.Inference/", method)).error_code(),
              grpc::StatusCode::CANCELLED)
        << method;
  }
  EXPECT_THAT(rejections(), ElementsAre(" CANCELLED"));
  EXPECT_THAT(detect_rejected(), ElementsAre(" CANCELLED"));
}

TEST_F(InferenceServiceTest, TokenizesAndDetokenizes) {
  v1::TokenizeRequest request;
  request.set_model("tiny");
  request.set_text("ab");
  v1::TokenizeResponse response;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(inference_->Tokenize(&context, request, &response).ok());
    EXPECT_THAT(response.token_ids(), ElementsAre('a', 'b'));
  }
  {
    request.set_text(std::string(100'000, 'x'));
    grpc::ClientContext context;
    ASSERT_TRUE(inference_->Tokenize(&context, request, &response).ok());
    EXPECT_EQ(response.token_ids_size(), 100'000);
  }
  v1::DetokenizeRequest back;
  back.set_model("tiny");
  for (const int id : {0x68, 0xC3, 0xA4, 0xFF}) back.add_token_ids(id);
  v1::DetokenizeResponse text;
  grpc::ClientContext context;
  ASSERT_TRUE(inference_->Detokenize(&context, back, &text).ok());
  EXPECT_EQ(text.text(), "h\xC3\xA4\xEF\xBF\xBD");
}

TEST_F(InferenceServiceTest, RefusesBadTextsAndIds) {
  const auto tokenize = [&](const std::string& model, size_t bytes) {
    v1::TokenizeRequest request;
    request.set_model(model);
    request.set_text(std::string(bytes, 'x'));
    v1::TokenizeResponse response;
    grpc::ClientContext context;
    return inference_->Tokenize(&context, request, &response);
  };
  EXPECT_EQ(tokenize("", 1).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(tokenize("other", 1).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(tokenize("tiny", (1 << 20) + 1).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(tokenize("tiny", 10'000'000).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);

  const auto detokenize = [&](int count, int id) {
    v1::DetokenizeRequest request;
    request.set_model("tiny");
    for (int i = 0; i < count; ++i) request.add_token_ids(id);
    v1::DetokenizeResponse response;
    grpc::ClientContext context;
    return inference_->Detokenize(&context, request, &response);
  };
  EXPECT_TRUE(detokenize(0, 0).ok());
  EXPECT_TRUE(detokenize(65'536, 65).ok());
  EXPECT_THAT(detokenize(65'537, 65).error_message(),
              HasSubstr("token_ids: must have at most 65536 elements"));
  EXPECT_THAT(detokenize(1, 256).error_message(),
              HasSubstr("token_ids[0]: must be from 0 to 255, is 256"));
  EXPECT_THAT(detokenize(1, -7).error_message(), HasSubstr("is -7"));
}

TEST_F(InferenceServiceTest, ListsModelsWithoutWhatIsTheOperators) {
  v1::ListServedModelsResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(inference_->ListModels(&context, {}, &response).ok());
  ASSERT_EQ(response.models_size(), 3);
  const v1::ServedModel& detector = response.models(0);
  EXPECT_EQ(detector.name(), "detr");
  EXPECT_THAT(detector.tasks(), ElementsAre(v1::TASK_DETECT_OBJECTS));
  EXPECT_EQ(detector.max_positions(), 0);
  const v1::ServedModel& model = response.models(2);
  EXPECT_EQ(model.name(), "tiny");
  EXPECT_EQ(model.state(), v1::MODEL_STATE_READY);
  EXPECT_THAT(model.tasks(), ElementsAre(v1::TASK_GENERATE));
  EXPECT_EQ(model.version(), 3);
  EXPECT_EQ(model.method(), "float32");
  EXPECT_EQ(model.architecture(), "codegen");
  EXPECT_EQ(model.max_positions(), 64);
  EXPECT_THAT(response.SerializeAsString(), Not(HasSubstr("/models/")));
}

TEST_F(InferenceServiceTest, CutsALongNameShortInItsAnswer) {
  const Answer answer = Generate(Request(std::string(3'000'000, 'm'), "a"));
  EXPECT_EQ(answer.status.error_message(),
            "model: must be at most 256 bytes, is 3000000");
}

}  // namespace
}  // namespace ounce
