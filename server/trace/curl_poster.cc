#include "server/trace/curl_poster.h"

#include <curl/curl.h>
#include <stdlib.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "base/guard.h"
#include "base/mutex.h"

namespace ounce::server {
namespace {

constexpr size_t kMaxAnswerBytes = 64 << 10;

// With what the environment says, which libcurl reads only without this.
std::string NotByProxy() {
  std::string hosts = "localhost,127.0.0.1,::1";
  for (const char* name : {"no_proxy", "NO_PROXY"}) {
    const char* const more = getenv(name);
    if (more == nullptr) continue;
    if (std::string(more) == "*") return "*";
    absl::StrAppend(&hosts, ",", more);
    break;
  }
  return hosts;
}

struct FreeEasy {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
struct FreeMulti {
  void operator()(CURLM* multi) const { curl_multi_cleanup(multi); }
};
struct FreeList {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

class CurlPoster final : public HttpPoster {
 public:
  CurlPoster(const CurlPosterOptions& options, const Clock& clock)
      : timeout_(options.timeout), clock_(clock) {}

  absl::Status SetUp(const CurlPosterOptions& options) {
    static const CURLcode begun = curl_global_init(CURL_GLOBAL_DEFAULT);
    multi_.reset(begun == CURLE_OK ? curl_multi_init() : nullptr);
    easy_.reset(multi_ != nullptr ? curl_easy_init() : nullptr);
    if (easy_ == nullptr) return OutOfMemory();
    AddHeader("Content-Type: application/json");
    AddHeader("Expect:");  // not 100-continue
    for (const auto& [name, value] : options.headers) {
      AddHeader(absl::StrCat(name, ": ", value));
    }
    Set(CURLOPT_URL, options.url.c_str());
    Set(CURLOPT_HTTPHEADER, headers_.get());
    Set(CURLOPT_USERAGENT, "ounce-server");
    Set(CURLOPT_PROTOCOLS_STR, "http,https");
    Set(CURLOPT_NOPROXY, NotByProxy().c_str());
    if (!options.ca_file.empty()) {
      Set(CURLOPT_CAINFO, options.ca_file.c_str());
    }
    Set(CURLOPT_NOSIGNAL, 1L);
    // Waits for no thread that still asks a name server.
    Set(CURLOPT_QUICK_EXIT, 1L);
    Set(CURLOPT_ERRORBUFFER, error_.data());
    Set(CURLOPT_WRITEFUNCTION, &CurlPoster::OnBody);
    Set(CURLOPT_WRITEDATA, this);
    return set_up_ == CURLE_OK ? absl::OkStatus() : OutOfMemory();
  }

  absl::StatusOr<HttpAnswer> Post(const std::string& body) override {
    answer_ = {};
    error_[0] = '\0';
    Set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    Set(CURLOPT_POSTFIELDS, body.c_str());
    curl_multi_add_handle(multi_.get(), easy_.get());
    const absl::Status done = Perform();
    curl_multi_remove_handle(multi_.get(), easy_.get());
    if (!done.ok()) return done;
    long code = 0;  // NOLINT: libcurl's type
    curl_off_t retry_after = 0;
    curl_easy_getinfo(easy_.get(), CURLINFO_RESPONSE_CODE, &code);
    curl_easy_getinfo(easy_.get(), CURLINFO_RETRY_AFTER, &retry_after);
    answer_.code = static_cast<int>(code);
    answer_.retry_after = absl::Seconds(retry_after);
    return std::move(answer_);
  }

  void EndBy(absl::Time deadline) override {
    {
      MutexLock lock(&mu_);
      end_ = deadline;
    }
    curl_multi_wakeup(multi_.get());
  }

 private:
  template <class Value>
  void Set(CURLoption option, Value value) {
    const CURLcode code = curl_easy_setopt(easy_.get(), option, value);
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

  static size_t OnBody(char* bytes, size_t size, size_t count, void* self) {
    std::string& body = static_cast<CurlPoster*>(self)->answer_.body;
    const size_t room =
        kMaxAnswerBytes - std::min(kMaxAnswerBytes, body.size());
    const absl::Status kept = Guarded([&] {
      body.append(bytes, std::min(size * count, room));
      return absl::OkStatus();
    });
    return kept.ok() ? size * count : 0;
  }

  absl::Time End() {
    MutexLock lock(&mu_);
    return end_;
  }

  // Until the answer is there.
  absl::Status Perform() {
    const absl::Time timeout = clock_.Now() + timeout_;
    int running = 1;
    while (true) {
      if (curl_multi_perform(multi_.get(), &running) != CURLM_OK) {
        return absl::UnavailableError("out of memory");
      }
      if (running == 0) break;
      const absl::Time now = clock_.Now();
      const absl::Duration left = std::min(timeout, End()) - now;
      if (left <= absl::ZeroDuration()) {
        return absl::UnavailableError(
            now < timeout ? "the collector did not answer before the stop"
                          : absl::StrCat("the collector did not answer in ",
                                         absl::ToInt64Seconds(timeout_), " s"));
      }
      const int64_t ms = absl::ToInt64Milliseconds(left) + 1;
      curl_multi_poll(multi_.get(), nullptr, 0, static_cast<int>(ms), nullptr);
    }
    int others = 0;
    const CURLMsg* const message = curl_multi_info_read(multi_.get(), &others);
    const CURLcode code =
        message != nullptr ? message->data.result : CURLE_OUT_OF_MEMORY;
    if (code == CURLE_OK) return absl::OkStatus();
    return absl::UnavailableError(absl::StrCat(
        "the collector can't be reached: ",
        error_[0] != '\0' ? error_.data() : curl_easy_strerror(code)));
  }

  const absl::Duration timeout_;
  const Clock& clock_;
  CURLcode set_up_ = CURLE_OK;
  std::array<char, CURL_ERROR_SIZE> error_ = {};
  std::unique_ptr<curl_slist, FreeList> headers_;
  std::unique_ptr<CURLM, FreeMulti> multi_;
  std::unique_ptr<CURL, FreeEasy> easy_;
  HttpAnswer answer_;

  Mutex mu_;
  absl::Time end_ ABSL_GUARDED_BY(mu_) = absl::InfiniteFuture();
};

}  // namespace

absl::StatusOr<std::unique_ptr<HttpPoster>> CreateCurlPoster(
    const CurlPosterOptions& options, const Clock& clock) {
  auto poster = std::make_unique<CurlPoster>(options, clock);
  const absl::Status status = poster->SetUp(options);
  if (!status.ok()) return status;
  return poster;
}

}  // namespace ounce::server
