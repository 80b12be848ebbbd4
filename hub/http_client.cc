#include "hub/http_client.h"

#include <curl/curl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/free_by.h"
#include "base/guard.h"
#include "base/status_macros.h"

namespace ounce::hub {
namespace {

constexpr long kConnectSeconds = 20;  // NOLINT: libcurl's type
constexpr long kSilentSeconds = 60;   // NOLINT: libcurl's type
constexpr long kMostRedirects = 5;    // NOLINT: libcurl's type

// Others are passed over, so that a reply takes no more memory than these.
constexpr std::array<std::string_view, 9> kHeaders = {
    "content-length", "content-range", "etag",
    "location",       "x-error-code",  "x-error-message",
    "x-linked-etag",  "x-linked-size", "x-repo-commit"};

using Easy = std::unique_ptr<CURL, FreeBy<curl_easy_cleanup>>;
using List = std::unique_ptr<curl_slist, FreeBy<curl_slist_free_all>>;

absl::Status AsStatus(CURLcode code, const std::string& words,
                      const std::string& url) {
  const std::string host = url.substr(0, url.find('/', url.find("://") + 3));
  std::string message = absl::StrCat(host, ": ", words);
  // The host may be one that a server has named.
  std::replace_if(
      message.begin(), message.end(),
      [](char c) {
        return !absl::ascii_isprint(static_cast<unsigned char>(c));
      },
      '?');
  switch (code) {
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
      return absl::InvalidArgumentError(message);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
      return absl::FailedPreconditionError(absl::StrCat(
          message,
          "; SSL_CERT_FILE names a file of authorities, in place of the "
          "system's"));
    case CURLE_TOO_MANY_REDIRECTS:
      return absl::FailedPreconditionError(message);
    case CURLE_OUT_OF_MEMORY:
      return OutOfMemory();
    default:
      return absl::UnavailableError(message);
  }
}

}  // namespace

std::string HttpReply::Header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? "" : found->second;
}

struct HttpClient::Handle {
  Easy easy;
};

// One request, set up on the handle, and what comes of it.
class HttpClient::Transfer {
 public:
  Transfer(CURL* easy, const HttpRequest& request, const Hooks& hooks)
      : easy_(easy), request_(request), hooks_(hooks) {}

  absl::Status SetUp() {
    curl_easy_reset(easy_);  // connections stay
    Set(CURLOPT_URL, request_.url.c_str());
    Set(CURLOPT_PROTOCOLS_STR, "http,https");
    Set(CURLOPT_REDIR_PROTOCOLS_STR,
        request_.url.starts_with("https:") ? "https" : "http,https");
    Set(CURLOPT_FOLLOWLOCATION, request_.follow ? 1L : 0L);
    Set(CURLOPT_MAXREDIRS, kMostRedirects);
    Set(CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
    Set(CURLOPT_LOW_SPEED_LIMIT, 1L);
    Set(CURLOPT_LOW_SPEED_TIME, kSilentSeconds);
    Set(CURLOPT_NOSIGNAL, 1L);
    Set(CURLOPT_USERAGENT, "ounce");
    Set(CURLOPT_ERRORBUFFER, error_.data());
    Set(CURLOPT_HEADERFUNCTION, &Transfer::OnHeader);
    Set(CURLOPT_HEADERDATA, this);
    Set(CURLOPT_WRITEFUNCTION, &Transfer::OnBody);
    Set(CURLOPT_WRITEDATA, this);
    Set(CURLOPT_NOPROGRESS, 0L);
    Set(CURLOPT_XFERINFOFUNCTION, &Transfer::OnProgress);
    Set(CURLOPT_XFERINFODATA, this);
    const char* const authorities = std::getenv("SSL_CERT_FILE");
    if (authorities != nullptr && *authorities != '\0') {
      Set(CURLOPT_CAINFO, authorities);
    }
    SetUpMethod();
    AddHeader("Expect:");  // not 100-continue
    for (const std::string& header : request_.headers) AddHeader(header);
    Set(CURLOPT_HTTPHEADER, headers_.get());
    return set_up_ == CURLE_OK ? absl::OkStatus() : OutOfMemory();
  }

  absl::StatusOr<HttpReply> Run() {
    const CURLcode code = curl_easy_perform(easy_);
    if (!status_.ok()) return status_;
    if (code != CURLE_OK) {
      return AsStatus(
          code, error_[0] != '\0' ? error_.data() : curl_easy_strerror(code),
          request_.url);
    }
    reply_.code = Code();
    curl_off_t seconds = 0;
    curl_easy_getinfo(easy_, CURLINFO_RETRY_AFTER, &seconds);
    reply_.retry_after = absl::Seconds(std::max<curl_off_t>(0, seconds));
    return std::move(reply_);
  }

 private:
  template <class Value>
  void Set(CURLoption option, Value value) {
    const CURLcode code = curl_easy_setopt(easy_, option, value);
    if (code != CURLE_OK) set_up_ = code;
  }

  void AddHeader(const std::string& line) {
    curl_slist* const more = curl_slist_append(headers_.get(), line.c_str());
    if (more == nullptr) {
      set_up_ = CURLE_OUT_OF_MEMORY;
      return;
    }
    (void)headers_.release();
    headers_.reset(more);
  }

  void SetUpMethod() {
    if (request_.method == "HEAD") {
      Set(CURLOPT_NOBODY, 1L);
    } else if (request_.file.has_value()) {
      Set(CURLOPT_UPLOAD, 1L);  // PUT
      Set(CURLOPT_READFUNCTION, &Transfer::OnRead);
      Set(CURLOPT_READDATA, this);
      Set(CURLOPT_SEEKFUNCTION, &Transfer::OnSeek);
      Set(CURLOPT_SEEKDATA, this);
      Set(CURLOPT_INFILESIZE_LARGE,
          static_cast<curl_off_t>(request_.file->size));
    } else if (request_.method != "GET") {
      Set(CURLOPT_POSTFIELDSIZE_LARGE,
          static_cast<curl_off_t>(request_.body.size()));
      Set(CURLOPT_POSTFIELDS, request_.body.c_str());
      Set(CURLOPT_CUSTOMREQUEST, request_.method.c_str());
    }
  }

  int Code() const {
    long code = 0;  // NOLINT: libcurl's type
    curl_easy_getinfo(easy_, CURLINFO_RESPONSE_CODE, &code);
    return static_cast<int>(code);
  }

  static size_t OnHeader(char* bytes, size_t size, size_t count, void* self) {
    auto& transfer = *static_cast<Transfer*>(self);
    transfer.status_.Update(Guarded([&] {
      transfer.TakeHeader({bytes, size * count});
      return absl::OkStatus();
    }));
    return transfer.status_.ok() ? size * count : 0;
  }

  void TakeHeader(std::string_view line) {
    if (line.starts_with("HTTP/")) reply_.headers.clear();  // the next reply
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) return;
    std::string name(line.substr(0, colon));
    absl::AsciiStrToLower(&name);
    if (std::find(kHeaders.begin(), kHeaders.end(), name) == kHeaders.end()) {
      return;
    }
    std::string value(line.substr(colon + 1));
    absl::StripAsciiWhitespace(&value);
    reply_.headers[name] = value;
  }

  static size_t OnBody(char* bytes, size_t size, size_t count, void* self) {
    auto& transfer = *static_cast<Transfer*>(self);
    transfer.status_.Update(Guarded([&] {
      return transfer.TakeBody({bytes, size * count});
    }));
    return transfer.status_.ok() ? size * count : 0;
  }

  absl::Status TakeBody(std::string_view bytes) {
    reply_.code = Code();
    if (request_.on_body && (reply_.code == 200 || reply_.code == 206)) {
      RETURN_IF_ERROR(hooks_.Proceed());
      return request_.on_body(reply_, bytes);
    }
    const size_t room = request_.max_body_bytes -
                        std::min(request_.max_body_bytes, reply_.body.size());
    reply_.body.append(bytes.substr(0, room));
    return absl::OkStatus();
  }

  static size_t OnRead(char* buffer, size_t size, size_t count, void* self) {
    auto& transfer = *static_cast<Transfer*>(self);
    const FilePart& part = *transfer.request_.file;
    const size_t most = static_cast<size_t>(std::min<int64_t>(
        static_cast<int64_t>(size * count), part.size - transfer.num_read_));
    const ssize_t num_read =
        pread(part.file, buffer, most, part.offset + transfer.num_read_);
    if (num_read < 0 || (num_read == 0 && most > 0)) {
      transfer.status_ = absl::DataLossError(
          "a file that is sent has become shorter, or can't be read");
      return CURL_READFUNC_ABORT;
    }
    transfer.num_read_ += num_read;
    return static_cast<size_t>(num_read);
  }

  static int OnSeek(void* self, curl_off_t offset, int origin) {
    if (origin != SEEK_SET) return CURL_SEEKFUNC_CANTSEEK;
    static_cast<Transfer*>(self)->num_read_ = offset;
    return CURL_SEEKFUNC_OK;
  }

  static int OnProgress(void* self, curl_off_t, curl_off_t, curl_off_t,
                        curl_off_t sent) {
    auto& transfer = *static_cast<Transfer*>(self);
    transfer.status_.Update(Guarded([&] {
      if (transfer.request_.on_sent) transfer.request_.on_sent(sent);
      return transfer.hooks_.Proceed();
    }));
    return transfer.status_.ok() ? 0 : 1;
  }

  CURL* const easy_;
  const HttpRequest& request_;
  const Hooks& hooks_;
  CURLcode set_up_ = CURLE_OK;
  std::array<char, CURL_ERROR_SIZE> error_ = {};
  List headers_;
  int64_t num_read_ = 0;  // of the file's part
  absl::Status status_;   // why a callback ended the transfer
  HttpReply reply_;
};

HttpClient::HttpClient(const Hooks& hooks)
    : hooks_(hooks), handle_(std::make_unique<Handle>()) {
  static const CURLcode begun = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (begun == CURLE_OK) handle_->easy.reset(curl_easy_init());
}

HttpClient::~HttpClient() = default;

absl::StatusOr<HttpReply> HttpClient::Perform(const HttpRequest& request) {
  if (handle_->easy == nullptr) return OutOfMemory();
  RETURN_IF_ERROR(hooks_.Proceed());
  Transfer transfer(handle_->easy.get(), request, hooks_);
  RETURN_IF_ERROR(transfer.SetUp());
  return transfer.Run();
}

}  // namespace ounce::hub
