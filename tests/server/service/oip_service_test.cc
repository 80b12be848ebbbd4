// The Open Inference Protocol, from the wire to a fake catalog and back.
#include "server/service/oip_service.h"

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "server/scheduler/refusal.h"
#include "server/service/grpc_status.h"
#include "tests/server/service/service_fixture.h"
#include "tests/testing/png_file.h"

namespace ounce::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

// An element of BYTES as raw contents have it.
std::string Raw(const std::string& bytes) {
  std::string raw;
  for (size_t i = 0; i < 4; ++i) {
    raw += static_cast<char>(bytes.size() >> (8 * i));
  }
  return raw + bytes;
}

class OipServiceTest : public ServiceTest {
 protected:
  using Request = inference::ModelInferRequest;
  using Response = inference::ModelInferResponse;
  using Stub = inference::GRPCInferenceService::Stub;

  void SetUp() override {
    ServiceTest::SetUp();
    oip_ = inference::GRPCInferenceService::NewStub(channel_);
    oip_admin_ = inference::GRPCInferenceService::NewStub(admin_channel_);
  }

  static Request::InferInputTensor* AddInput(const std::string& name,
                                             const std::string& datatype,
                                             Request* request) {
    auto* const input = request->add_inputs();
    input->set_name(name);
    input->set_datatype(datatype);
    input->add_shape(1);
    return input;
  }
  static Request Text(const std::string& model, const std::string& text,
                      int64_t max_tokens) {
    Request request;
    request.set_model_name(model);
    request.set_id("7");
    AddInput("text_input", "BYTES", &request);
    request.add_raw_input_contents(Raw(text));
    (*request.mutable_parameters())["max_tokens"].set_int64_param(max_tokens);
    return request;
  }
  static Request Picture(const std::string& image) {
    Request request;
    request.set_model_name("detr");
    *AddInput("image", "BYTES", &request)
         ->mutable_contents()
         ->add_bytes_contents() = image;
    return request;
  }
  static void Stream(Request* request) {
    AddInput("stream", "BOOL", request);
    request->add_raw_input_contents(std::string(1, '\1'));
  }

  std::pair<grpc::Status, Response> Infer(const Request& request) {
    grpc::ClientContext context;
    Response response;
    const grpc::Status status = oip_->ModelInfer(&context, request, &response);
    return {status, response};
  }
  // How ModelInfer refuses.
  std::string Refused(const Request& request) {
    const auto [status, response] = Infer(request);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    return status.error_message();
  }
  // One call of any other unary method.
  template <class Question, class Answer>
  static std::pair<grpc::Status, Answer> Ask(
      Stub& stub,
      grpc::Status (Stub::*method)(grpc::ClientContext*, const Question&,
                                   Answer*),
      const Question& question) {
    grpc::ClientContext context;
    Answer answer;
    const grpc::Status status = (stub.*method)(&context, question, &answer);
    return {status, answer};
  }

  std::unique_ptr<Stub> oip_;
  std::unique_ptr<Stub> oip_admin_;
};

TEST_F(OipServiceTest, AnswersTextWithText) {
  const auto [status, response] = Infer(Text("tiny", "hello", 4));
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.model_name(), "tiny");
  EXPECT_EQ(response.model_version(), "3");
  EXPECT_EQ(response.id(), "7");
  EXPECT_EQ(response.parameters().at("method").string_param(), "float32");
  ASSERT_EQ(response.outputs_size(), 5);
  EXPECT_EQ(response.outputs(0).name(), "text_output");
  EXPECT_EQ(response.outputs(0).datatype(), "BYTES");
  EXPECT_THAT(response.outputs(0).shape(), ElementsAre(1));
  EXPECT_THAT(
      response.raw_output_contents(),
      ElementsAre(Raw("abca"), Raw("length"), std::string("\5\0\0\0", 4),
                  std::string("\4\0\0\0", 4), std::string("\1\0\0\0", 4)));
}

TEST_F(OipServiceTest, AnswersInTheFormOfTheRequestWithTheOutputsItNames) {
  Request request = Text("tiny", "hello", 2);
  request.clear_raw_input_contents();
  request.mutable_inputs(0)->clear_shape();
  request.mutable_inputs(0)->add_shape(1);
  request.mutable_inputs(0)->add_shape(1);
  request.mutable_inputs(0)->mutable_contents()->add_bytes_contents("hello");
  request.add_outputs()->set_name("num_output_tokens");
  request.add_outputs()->set_name("text_output");
  const auto [status, response] = Infer(request);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_THAT(response.raw_output_contents(), IsEmpty());
  ASSERT_EQ(response.outputs_size(), 2);
  EXPECT_THAT(response.outputs(0).contents().bytes_contents(),
              ElementsAre("ab"));
  EXPECT_THAT(response.outputs(1).contents().uint_contents(), ElementsAre(2));
}

TEST_F(OipServiceTest, TakesSamplingFromParametersAndFromJson) {
  Request request = Text("tiny", "a", 1);
  auto& parameters = *request.mutable_parameters();
  parameters["temperature"].set_string_param("0.5");
  parameters["top_k"].set_int64_param(-1);
  parameters["top_p"].set_double_param(0.75);
  parameters["seed"].set_uint64_param(9);
  parameters["binary_data_output"].set_bool_param(true);
  AddInput("sampling_parameters", "BYTES", &request);
  request.add_raw_input_contents(
      Raw(R"({"top_p": 0.25, "min_p": "0.125", "stop": ["x", "y"]})"));
  AddInput("exclude_input_in_output", "BOOL", &request);
  request.add_raw_input_contents(std::string(1, '\1'));
  const auto [status, response] = Infer(request);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.parameters().at("seed").string_param(), "9");
  const auto submitted = catalog_.scheduler("tiny").submitted();
  ASSERT_THAT(submitted, SizeIs(1));
  EXPECT_EQ(submitted[0].sampling.temperature, 0.5f);
  EXPECT_EQ(submitted[0].sampling.top_k, 0);
  EXPECT_EQ(submitted[0].sampling.top_p, 0.25f) << "JSON goes before";
  EXPECT_EQ(submitted[0].sampling.min_p, 0.125f);
  EXPECT_EQ(submitted[0].sampling.seed, 9u);
  EXPECT_THAT(submitted[0].stop, ElementsAre("x", "y"));
  EXPECT_EQ(submitted[0].max_new_tokens, 1);
  EXPECT_THAT(submitted[0].prompt, ElementsAre('a'));
}

TEST_F(OipServiceTest, EndsAtItsTimeout) {
  catalog_.scheduler("long").SetStep(absl::Milliseconds(2));
  Request request = Text("long", "a", 1'000'000);
  (*request.mutable_parameters())["timeout"].set_int64_param(50'000);
  EXPECT_EQ(Infer(request).first.error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
}

TEST_F(OipServiceTest, AnswersAPictureWithBoxesLabelsAndScores) {
  Request request = Picture(MakePng(64, 80));
  (*request.mutable_parameters())["threshold"].set_double_param(0);
  const auto [status, response] = Infer(request);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.outputs_size(), 3);
  EXPECT_EQ(response.outputs(0).name(), "boxes");
  EXPECT_THAT(response.outputs(0).shape(), ElementsAre(1, 4));
  EXPECT_THAT(response.outputs(0).contents().fp32_contents(),
              ElementsAre(1, 2, 80, 64));
  EXPECT_THAT(response.outputs(1).contents().bytes_contents(),
              ElementsAre("width 40"));
  EXPECT_THAT(response.outputs(2).contents().fp32_contents(),
              ElementsAre(0.5f));
  // Raw in, raw out.
  request.add_raw_input_contents(Raw(MakePng(64, 80)));
  request.mutable_inputs(0)->clear_contents();
  const Response raw = Infer(request).second;
  ASSERT_EQ(raw.raw_output_contents_size(), 3);
  float boxes[4];
  ASSERT_EQ(raw.raw_output_contents(0).size(), sizeof(boxes));
  std::memcpy(boxes, raw.raw_output_contents(0).data(), sizeof(boxes));
  EXPECT_THAT(boxes, ElementsAre(1, 2, 80, 64));
  EXPECT_EQ(raw.raw_output_contents(1), Raw("width 40"));
}

TEST_F(OipServiceTest, SaysWhatIsWrong) {
  Request request = Text("tiny", "a", 1);
  request.mutable_inputs(0)->set_datatype("FP32");
  EXPECT_EQ(Refused(request),
            "text_input: must be of datatype BYTES, is 'FP32'");
  request = Text("tiny", "a", 1);
  request.mutable_inputs(0)->set_shape(0, 2);
  EXPECT_THAT(Refused(request),
              AllOf(HasSubstr("text_input: must have 1 element"),
                    HasSubstr("has shape [2]")));
  request = Text("tiny", "a", 1);
  request.set_raw_input_contents(0, "a");
  EXPECT_THAT(Refused(request), StartsWith("text_input: its raw contents must "
                                           "be the length in 4 bytes"));
  request.set_raw_input_contents(0, std::string("\2\0\0\0a", 5));
  EXPECT_THAT(Refused(request), HasSubstr("are 5 bytes that are not"));
  request = Text("tiny", "a", 1);
  request.mutable_inputs(0)->mutable_contents()->add_bytes_contents("a");
  EXPECT_THAT(Refused(request), HasSubstr("beside raw_input_contents"));
  request = Text("tiny", "a", 1);
  request.add_raw_input_contents("");
  EXPECT_EQ(Refused(request),
            "raw_input_contents: must be one for each of the 1 inputs, or "
            "none, are 2");
  EXPECT_THAT(Refused(Text("tiny", "\xff", 1)),
              StartsWith("text_input: must be UTF-8; byte 0 of 1"));
  EXPECT_EQ(Refused(Text("tiny", "", 1)), "text_input: is empty");
  EXPECT_EQ(Refused(Text("tiny", std::string((1 << 20) + 1, 'x'), 1)),
            "text_input: must be at most 1048576 bytes, is 1048577");
  request = Text("tiny", "a", 1);
  AddInput("text_input", "BYTES", &request);
  request.add_raw_input_contents(Raw("b"));
  EXPECT_EQ(Refused(request), "text_input: is given more than once");
  request = Text("tiny", "a", 1);
  request.mutable_inputs(0)->set_name("input_ids");
  EXPECT_THAT(Refused(request),
              StartsWith("inputs: 'input_ids' is not known; this model takes "
                         "text_input, stream, "));
  request = Text("tiny", "a", 1);
  request.add_outputs()->set_name("logits");
  EXPECT_THAT(Refused(request),
              StartsWith("outputs: 'logits' is not known; this model has "
                         "text_output, "));
  request = Text("tiny", "a", 1);
  request.add_outputs()->set_name("text_output");
  (*request.mutable_outputs(0)->mutable_parameters())["classification"]
      .set_int64_param(3);
  EXPECT_EQ(Refused(request),
            "text_output: parameter 'classification' is not known; leave it "
            "out");
  EXPECT_EQ(Infer(Picture("no picture")).first.error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(server::ReasonIn(Infer(Picture("no picture")).first),
            server::RowOf(server::Reason::kPictureUnreadable).name);
}

// As those that the front end refuses, where it is known what they ask for.
TEST_F(OipServiceTest, CountsWhatItRefusesItself) {
  Request request = Text("tiny", "a", 1);
  request.mutable_inputs(0)->set_name("input_ids");
  Refused(request);
  EXPECT_THAT(rejected(), ElementsAre("tiny"));
  request = Picture("no picture");
  request.mutable_inputs(0)->set_name("pixel_values");
  Refused(request);
  EXPECT_THAT(detect_rejected(), ElementsAre("detr INVALID_ARGUMENT"));
  EXPECT_FALSE(Infer(Text("none", "a", 1)).first.ok());
  EXPECT_THAT(rejected(), SizeIs(1));
  EXPECT_THAT(detect_rejected(), SizeIs(1));
}

TEST_F(OipServiceTest, SaysWhichParameterIsWrong) {
  const auto refused = [&](const std::string& name, auto set) {
    Request request = Text("tiny", "a", 1);
    set((*request.mutable_parameters())[name]);
    return Refused(request);
  };
  const auto text = [](const char* value) {
    return [value](inference::InferParameter& p) { p.set_string_param(value); };
  };
  EXPECT_EQ(refused("top_p", text("2")), "top_p: must be from 0 to 1, is 2");
  EXPECT_EQ(refused("top_p", text("much")), "top_p: must be a number");
  EXPECT_THAT(refused("top_k", text("1.5")),
              StartsWith("top_k: must be a whole number"));
  EXPECT_EQ(refused("max_tokens", text("-1")),
            "max_tokens: must be at least 0, is -1");
  EXPECT_EQ(refused("timeout", text("0")),
            "timeout: must be microseconds, at least 1");
  EXPECT_THAT(refused("best_of", text("2")),
              StartsWith("parameters: 'best_of' is not known; known are "
                         "max_tokens (or max_new_tokens), temperature, "));
  EXPECT_THAT(refused("max_new_tokens", text("2")),
              StartsWith("max_tokens: is given beside max_new_tokens"));
  EXPECT_EQ(refused("stop", text("")), "stop: is empty");
  Request request = Text("tiny", "a", 1);
  AddInput("sampling_parameters", "BYTES", &request);
  request.add_raw_input_contents(Raw("[1]"));
  EXPECT_THAT(Refused(request), StartsWith("sampling_parameters: "));
}

TEST_F(OipServiceTest, KnowsModelsAndVersions) {
  EXPECT_EQ(Infer(Text("none", "a", 1)).first.error_code(),
            grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Infer(Text("loading", "a", 1)).first.error_code(),
            grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Refused(Text("", "a", 1)),
            "model_name: is empty; name a model that is served");
  Request request = Text("tiny", "a", 1);
  request.set_model_version("3");
  EXPECT_TRUE(Infer(request).first.ok());
  request.set_model_version("2");
  const grpc::Status old = Infer(request).first;
  EXPECT_EQ(old.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(old.error_message(),
            "model 'tiny' has no version '2'; version 3 serves; leave the "
            "version out for the one that does");
  const auto ready = [&](const std::string& name, const std::string& version) {
    inference::ModelReadyRequest question;
    question.set_name(name);
    question.set_version(version);
    const auto [status, answer] = Ask(*oip_, &Stub::ModelReady, question);
    EXPECT_TRUE(status.ok());
    return answer.ready();
  };
  EXPECT_TRUE(ready("tiny", ""));
  EXPECT_TRUE(ready("detr", "3"));
  EXPECT_FALSE(ready("tiny", "2"));
  EXPECT_FALSE(ready("loading", ""));
  EXPECT_FALSE(ready("none", ""));
}

TEST_F(OipServiceTest, TellsOfTheServerAndItsModels) {
  EXPECT_TRUE(Ask(*oip_, &Stub::ServerLive, inference::ServerLiveRequest())
                  .second.live());
  const inference::ServerReadyRequest ready;
  EXPECT_FALSE(Ask(*oip_, &Stub::ServerReady, ready).second.ready());
  oip_service_->SetServing(true);
  EXPECT_TRUE(Ask(*oip_, &Stub::ServerReady, ready).second.ready());
  const inference::ServerMetadataRequest about;
  const auto server = Ask(*oip_, &Stub::ServerMetadata, about).second;
  EXPECT_EQ(server.name(), "ounce");
  EXPECT_EQ(server.version(), "1.2.3");
  EXPECT_THAT(
      Ask(*oip_admin_, &Stub::ServerMetadata, about).second.extensions(),
      ElementsAre("model_repository", "model_repository(unload_dependents)"));
  inference::ModelMetadataRequest model;
  model.set_name("detr");
  const auto detr = Ask(*oip_, &Stub::ModelMetadata, model).second;
  EXPECT_EQ(detr.platform(), "ounce_detr");
  EXPECT_THAT(detr.versions(), ElementsAre("3"));
  ASSERT_EQ(detr.inputs_size(), 1);
  EXPECT_EQ(detr.inputs(0).name(), "image");
  ASSERT_EQ(detr.outputs_size(), 3);
  EXPECT_THAT(detr.outputs(0).shape(), ElementsAre(-1, 4));
  model.set_name("tiny");
  EXPECT_EQ(Ask(*oip_, &Stub::ModelMetadata, model).second.inputs(0).name(),
            "text_input");
  model.set_name("none");
  EXPECT_EQ(Ask(*oip_, &Stub::ModelMetadata, model).first.error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(OipServiceTest, StreamsOneRequestAfterTheOther) {
  grpc::ClientContext context;
  const auto stream = oip_->ModelStreamInfer(&context);
  Request first = Text("tiny", "a", 5);
  Stream(&first);
  first.set_id("first");
  Request wrong = Text("none", "a", 1);
  wrong.set_id("wrong");
  Request whole = Text("tiny", "a", 3);
  whole.set_id("whole");
  Request picture = Picture(MakePng(32, 40));
  picture.set_id("picture");
  for (const Request& request : {first, wrong, whole, picture}) {
    ASSERT_TRUE(stream->Write(request));
  }
  stream->WritesDone();
  std::vector<std::string> ends;
  std::string text;
  inference::ModelStreamInferResponse message;
  while (stream->Read(&message)) {
    const Response& response = message.infer_response();
    if (!message.error_message().empty()) {
      ends.push_back(absl::StrCat(response.id(), ": error"));
      EXPECT_THAT(message.error_message(), StartsWith("no model 'none'"));
      continue;
    }
    if (response.outputs(0).name() == "text_output") {
      text += response.raw_output_contents(0).substr(4);
    }
    if (!response.parameters().at("triton_final_response").bool_param()) {
      EXPECT_EQ(response.id(), "first");
      EXPECT_EQ(response.outputs_size(), 1);
      continue;
    }
    ends.push_back(response.id());
  }
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_THAT(ends, ElementsAre("first", "wrong: error", "whole", "picture"));
  EXPECT_EQ(text, "abcababc");
  // Nothing is left over that a server which stops would wait for.
  front_end_->Drain(absl::InfiniteFuture());
}

TEST_F(OipServiceTest, EndsAStreamByAnErrorForThoseWhoAskForThat) {
  grpc::ClientContext context;
  context.AddMetadata("triton_grpc_error", "true");
  const auto stream = oip_->ModelStreamInfer(&context);
  ASSERT_TRUE(stream->Write(Text("tiny", "", 1)));
  inference::ModelStreamInferResponse message;
  EXPECT_FALSE(stream->Read(&message));
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "text_input: is empty");
}

TEST_F(OipServiceTest, StopsTheWorkOfACallThatIsCancelled) {
  FakeScheduler& scheduler = catalog_.scheduler("long");
  scheduler.SetStep(absl::Milliseconds(1));
  Request request = Text("long", "a", 1'000'000);
  Stream(&request);
  {
    grpc::ClientContext context;
    const auto stream = oip_->ModelStreamInfer(&context);
    ASSERT_TRUE(stream->Write(request));
    inference::ModelStreamInferResponse message;
    ASSERT_TRUE(stream->Read(&message));
    context.TryCancel();
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  EXPECT_TRUE(WaitUntil([&] { return scheduler.num_done() == 1; }));
  {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::milliseconds(50));
    Response response;
    EXPECT_EQ(oip_->ModelInfer(&context, request, &response).error_code(),
              grpc::StatusCode::DEADLINE_EXCEEDED);
  }
  EXPECT_TRUE(WaitUntil([&] { return scheduler.num_done() == 2; }));
  front_end_->Drain(absl::InfiniteFuture());
}

TEST_F(OipServiceTest, AReaderWhoComesLateGetsAllOfIt) {
  FakeScheduler& scheduler = catalog_.scheduler("long");
  Request request = Text("long", "a", 1'000'000);
  Stream(&request);
  grpc::ClientContext context;
  const auto stream = oip_->ModelStreamInfer(&context);
  ASSERT_TRUE(stream->Write(request));
  // Until nothing more comes while nobody reads.
  int64_t before = -1;
  EXPECT_TRUE(WaitUntil([&] {
    absl::SleepFor(absl::Milliseconds(100));
    return scheduler.num_tokens(1) ==
               std::exchange(before, scheduler.num_tokens(1)) &&
           before > 0;
  }));
  size_t bytes = 0;
  inference::ModelStreamInferResponse message;
  stream->WritesDone();
  while (stream->Read(&message)) {
    bytes += message.infer_response().raw_output_contents(0).size() - 4;
  }
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(bytes, 999'999u) << "a position is the prompt's";
}

TEST_F(OipServiceTest, ASlowReaderHoldsBackItsOwnStreamOnly) {
  FakeScheduler& scheduler = catalog_.scheduler("long");
  // A client that takes 64 KiB of a stream unread, and not whatever it could.
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 64 << 10);
  const auto slow = inference::GRPCInferenceService::NewStub(
      grpc::CreateCustomChannel(listeners_->inference_address(),
                                grpc::InsecureChannelCredentials(), arguments));
  Request request = Text("long", "a", 900'000);
  Stream(&request);
  grpc::ClientContext context;
  const auto stream = slow->ModelStreamInfer(&context);
  ASSERT_TRUE(stream->Write(request));
  // It stops growing, a byte a token: 64 KiB wait at the server, no more are
  // being written, and the client and its window have their share.
  constexpr int64_t kMostUnread = 4 * (64 << 10);
  int64_t tokens = -1;
  ASSERT_TRUE(WaitUntil([&] {
    const int64_t before = std::exchange(tokens, scheduler.num_tokens(1));
    absl::SleepFor(absl::Milliseconds(100));
    return tokens > (64 << 10) && tokens == before;
  }));
  EXPECT_LT(tokens, kMostUnread);
  // Meanwhile others are served, calls and streams.
  EXPECT_THAT(Infer(Text("long", "b", 5)).second.raw_output_contents(0),
              HasSubstr("abcab"));
  {
    Request other = Text("long", "c", 5);
    Stream(&other);
    grpc::ClientContext other_context;
    const auto reads = oip_->ModelStreamInfer(&other_context);
    ASSERT_TRUE(reads->Write(other));
    reads->WritesDone();
    std::string text;
    inference::ModelStreamInferResponse message;
    while (reads->Read(&message)) {
      text += message.infer_response().raw_output_contents(0).substr(4);
    }
    EXPECT_TRUE(reads->Finish().ok());
    EXPECT_EQ(text, "abcab");
  }
  EXPECT_LT(scheduler.num_tokens(1), kMostUnread);
  // And nothing is lost once it reads.
  stream->WritesDone();
  std::string text;
  inference::ModelStreamInferResponse message;
  while (stream->Read(&message)) {
    text += message.infer_response().raw_output_contents(0).substr(4);
  }
  EXPECT_TRUE(stream->Finish().ok());
  ASSERT_EQ(text.size(), 900'000u);
  for (size_t i = 0; i < text.size(); ++i) {
    ASSERT_EQ(text[i], static_cast<char>('a' + i % 3)) << i;
  }
}

TEST_F(OipServiceTest, TheRepositoryIsOnTheAdminsListenerAlone) {
  inference::RepositoryIndexRequest index;
  EXPECT_EQ(Ask(*oip_, &Stub::RepositoryIndex, index).first.error_code(),
            grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(Ask(*oip_admin_, &Stub::ModelInfer, Text("tiny", "a", 1))
                .first.error_code(),
            grpc::StatusCode::UNIMPLEMENTED);
  const auto [status, models] = Ask(*oip_admin_, &Stub::RepositoryIndex, index);
  ASSERT_TRUE(status.ok()) << status.error_message();
  std::vector<std::string> lines;
  for (const auto& model : models.models()) {
    lines.push_back(absl::StrCat(model.name(), " ", model.version(), " ",
                                 model.state(), " ", model.reason()));
  }
  EXPECT_THAT(lines,
              ElementsAre("detr 3 READY ", "long 3 READY ", "tiny 3 READY ",
                          "other  UNAVAILABLE not loaded"));
  index.set_ready(true);
  EXPECT_EQ(
      Ask(*oip_admin_, &Stub::RepositoryIndex, index).second.models_size(), 3);
  index.set_repository_name("x");
  EXPECT_EQ(Ask(*oip_admin_, &Stub::RepositoryIndex, index).first.error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(OipServiceTest, LoadsByNameOrFromAFolderAndNeverAFileOfTheRequest) {
  std::vector<std::string> loads;
  catalog_.load = [&](const server::LoadParams& params) {
    loads.push_back(absl::StrCat(params.name, " ", params.path, " ",
                                 params.plan.ToString()));
    return server::ModelInfo();
  };
  inference::RepositoryModelLoadRequest load;
  const auto go = [&] {
    return Ask(*oip_admin_, &Stub::RepositoryModelLoad, load).first;
  };
  load.set_model_name("other");
  EXPECT_TRUE(go().ok());
  load.set_model_name("tiny");  // it is there
  EXPECT_TRUE(go().ok());
  load.set_model_name("new");
  EXPECT_EQ(go().error_code(), grpc::StatusCode::NOT_FOUND);
  auto& parameters = *load.mutable_parameters();
  parameters["path"].set_string_param("/models/new");
  parameters["method"].set_string_param("linear");
  EXPECT_TRUE(go().ok());
  EXPECT_THAT(loads, ElementsAre(StartsWith("other /models/other"),
                                 StartsWith("new /models/new")));
  parameters["file:1/model.bin"].set_bytes_param("x");
  EXPECT_THAT(go().error_message(),
              StartsWith("parameters: 'file:1/model.bin': files never come"));
  parameters.erase("file:1/model.bin");
  parameters["config"].set_string_param("{}");
  EXPECT_THAT(go().error_message(),
              StartsWith("parameters: 'config' is not known; known are path"));
  EXPECT_THAT(loads, SizeIs(2));
}

TEST_F(OipServiceTest, Unloads) {
  std::vector<std::string> unloads;
  catalog_.unload = [&](const std::string& name, bool force) {
    unloads.push_back(absl::StrCat(name, force ? " by force" : ""));
    return absl::OkStatus();
  };
  inference::RepositoryModelUnloadRequest unload;
  unload.set_model_name("tiny");
  (*unload.mutable_parameters())["unload_dependents"].set_bool_param(true);
  EXPECT_TRUE(
      Ask(*oip_admin_, &Stub::RepositoryModelUnload, unload).first.ok());
  (*unload.mutable_parameters())["force"].set_bool_param(true);
  EXPECT_TRUE(
      Ask(*oip_admin_, &Stub::RepositoryModelUnload, unload).first.ok());
  EXPECT_THAT(unloads, ElementsAre("tiny", "tiny by force"));
  unload.set_model_name("a/b");
  EXPECT_THAT(Ask(*oip_admin_, &Stub::RepositoryModelUnload, unload)
                  .first.error_message(),
              StartsWith("model_name: must be"));
}

TEST_F(OipServiceTest, JudgesBytesBeforeAMessageIsBuilt) {
  Request request = Text("tiny", "a", 1);
  for (int i = 0; i < 100; ++i) request.add_inputs();
  EXPECT_EQ(Refused(request),
            "inputs: must have at most 16 elements, has "
            "more");
  request = Text("tiny", "a", 1);
  request.set_id(std::string(300, 'x'));
  EXPECT_EQ(Refused(request), "id: must be at most 256 bytes, is 300");
}

}  // namespace
}  // namespace ounce::testing
