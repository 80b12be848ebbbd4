#include "server/service/reflection_service.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <grpcpp/support/server_callback.h>

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/guard.h"
#include "grpc/health/v1/health.pb.h"
#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "server/service/reception.h"
#include "server/service/wire.h"

namespace ounce::server {
namespace {

using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;

const DescriptorPool& Pool() { return *DescriptorPool::generated_pool(); }

// `file` after all that it imports, each once.
template <class Response>
void AddFile(const FileDescriptor* file, std::set<const FileDescriptor*>* seen,
             Response* response) {
  if (!seen->insert(file).second) return;
  for (int i = 0; i < file->dependency_count(); ++i) {
    AddFile(file->dependency(i), seen, response);
  }
  google::protobuf::FileDescriptorProto proto;
  file->CopyTo(&proto);
  response->add_file_descriptor_proto(proto.SerializeAsString());
}

template <class Request>
const FileDescriptor* FileOf(const Request& request) {
  if (request.has_file_by_filename()) {
    return Pool().FindFileByName(request.file_by_filename());
  }
  if (request.has_file_containing_symbol()) {
    return Pool().FindFileContainingSymbol(request.file_containing_symbol());
  }
  const auto& asked = request.file_containing_extension();
  const auto* type = Pool().FindMessageTypeByName(asked.containing_type());
  const auto* extension = type == nullptr ? nullptr
                                          : Pool().FindExtensionByNumber(
                                                type, asked.extension_number());
  return extension == nullptr ? nullptr : extension->file();
}

template <class Response>
void SetError(grpc::StatusCode code, const std::string& message,
              Response* response) {
  response->mutable_error_response()->set_error_code(code);
  response->mutable_error_response()->set_error_message(message);
}

template <class Request, class Response>
void Answer(const std::vector<std::string>& services, const Request& request,
            Response* response) {
  response->set_valid_host(request.host());
  *response->mutable_original_request() = request;
  if (request.has_list_services()) {
    for (const std::string& name : services) {
      response->mutable_list_services_response()->add_service()->set_name(name);
    }
  } else if (request.has_all_extension_numbers_of_type()) {
    const std::string& name = request.all_extension_numbers_of_type();
    const auto* type = Pool().FindMessageTypeByName(name);
    if (type == nullptr) {
      SetError(grpc::StatusCode::NOT_FOUND, "no such message", response);
      return;
    }
    auto* numbers = response->mutable_all_extension_numbers_response();
    numbers->set_base_type_name(name);
    std::vector<const FieldDescriptor*> extensions;
    Pool().FindAllExtensions(type, &extensions);
    for (const auto* field : extensions) {
      numbers->add_extension_number(field->number());
    }
  } else if (request.message_request_case() ==
             Request::MESSAGE_REQUEST_NOT_SET) {
    SetError(grpc::StatusCode::INVALID_ARGUMENT, "message_request is not set",
             response);
  } else if (const FileDescriptor* file = FileOf(request); file != nullptr) {
    std::set<const FileDescriptor*> seen;
    AddFile(file, &seen, response->mutable_file_descriptor_response());
  } else {
    SetError(grpc::StatusCode::NOT_FOUND, "no such file or symbol", response);
  }
}

// One stream of questions and answers; deletes itself when it is done.
template <class Request, class Response>
class Conversation final
    : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  explicit Conversation(const std::vector<std::string>& services)
      : services_(services) {
    StartRead(&question_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      Finish(grpc::Status::OK);
      return;
    }
    grpc::ByteBuffer question;
    question.Swap(&question_);
    const absl::Status answered = Guarded([&] {
      Request request;
      Response response;
      const absl::Status read = ReadRequest(question, &request);
      if (read.ok()) {
        Answer(services_, request, &response);
      } else {
        SetError(static_cast<grpc::StatusCode>(read.raw_code()),
                 std::string(read.message()), &response);
      }
      answer_ = Serialize(response);
      return absl::OkStatus();
    });
    if (answered.ok()) {
      StartWrite(&answer_);
    } else {
      Finish(ToGrpcStatus(answered));
    }
  }
  void OnWriteDone(bool ok) override {
    if (ok) {
      StartRead(&question_);
    } else {
      Finish(grpc::Status::OK);
    }
  }
  void OnDone() override { delete this; }

 private:
  const std::vector<std::string>& services_;
  grpc::ByteBuffer question_;
  grpc::ByteBuffer answer_;
};

template <class Protocol, class Request, class Response>
class ReflectionService final
    : public Protocol::template WithRawCallbackMethod_ServerReflectionInfo<
          typename Protocol::Service> {
 public:
  explicit ReflectionService(std::vector<std::string> services)
      : services_(std::move(services)) {}

  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>*
  ServerReflectionInfo(grpc::CallbackServerContext*) override {
    return new Conversation<Request, Response>(services_);
  }

 private:
  const std::vector<std::string> services_;
};

}  // namespace

std::vector<std::unique_ptr<grpc::Service>> CreateReflectionServices(
    std::vector<std::string> services) {
  namespace v1 = grpc::reflection::v1;
  namespace v1alpha = grpc::reflection::v1alpha;
  for (const auto* file :
       {grpc::health::v1::HealthCheckRequest::descriptor()->file(),
        v1::ServerReflectionRequest::descriptor()->file(),
        v1alpha::ServerReflectionRequest::descriptor()->file()}) {
    services.push_back(file->service(0)->full_name());
  }
  std::sort(services.begin(), services.end());
  std::vector<std::unique_ptr<grpc::Service>> result;
  result.push_back(
      std::make_unique<
          ReflectionService<v1::ServerReflection, v1::ServerReflectionRequest,
                            v1::ServerReflectionResponse>>(services));
  result.push_back(
      std::make_unique<ReflectionService<v1alpha::ServerReflection,
                                         v1alpha::ServerReflectionRequest,
                                         v1alpha::ServerReflectionResponse>>(
          std::move(services)));
  return result;
}

}  // namespace ounce::server
