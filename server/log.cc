#include "server/log.h"

#include <poll.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "base/str_cat.h"
#include "base/utf8.h"

namespace ounce::server {
namespace {

// A pipe that poll calls ready takes so many bytes at once.
constexpr size_t kPieceBytes = 4096;
constexpr size_t kMaxMessageBytes = 16 << 10;

std::string_view ViewOf(const spdlog::string_view_t& text) {
  return std::string_view(text.data(), text.size());
}

std::string TimeOf(const spdlog::details::log_msg& message) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E3S%Ez",
                          absl::FromChrono(message.time),
                          absl::LocalTimeZone());
}

class Formatter final : public spdlog::formatter {
 public:
  explicit Formatter(LogFormat format) : format_(format) {}

  void format(const spdlog::details::log_msg& message,
              spdlog::memory_buf_t& line) override {
    const std::string time = TimeOf(message);
    const std::string level(
        ViewOf(spdlog::level::to_string_view(message.level)));
    std::string_view text = ViewOf(message.payload);
    std::string cut;
    if (text.size() > kMaxMessageBytes) {
      cut = StrCat(" ... (", text.size() - kMaxMessageBytes, " more bytes)");
      text = text.substr(0, kMaxMessageBytes);
    }
    std::string out;
    if (format_ == LogFormat::kJson) {
      nlohmann::ordered_json json;
      json["time"] = time;
      json["level"] = level;
      json["message"] = StrCat(text, cut);
      out = json.dump(-1, ' ', false,
                      nlohmann::ordered_json::error_handler_t::replace);
    } else {
      out = StrCat(time, " ", level, " ", Escaped(text), cut);
    }
    out += '\n';
    line.append(out.data(), out.data() + out.size());
  }

  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<Formatter>(format_);
  }

 private:
  const LogFormat format_;
};

// Of lines whose payload is an object with at least one field; what the sink
// itself has to say is JSON as elsewhere.
class RequestFormatter final : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message,
              spdlog::memory_buf_t& line) override {
    if (!ViewOf(message.payload).starts_with('{')) {
      Formatter(LogFormat::kJson).format(message, line);
      return;
    }
    const std::string out = StrCat(R"({"time":")", TimeOf(message),
                                   R"(","level":"info","message":"request",)",
                                   ViewOf(message.payload).substr(1), "\n");
    line.append(out.data(), out.data() + out.size());
  }

  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<RequestFormatter>();
  }
};

// stdout and stderr may be one pipe, and two lines at once too much for it.
std::mutex& OneWriter() {
  static std::mutex* const kMutex = new std::mutex;
  return *kMutex;
}

class Sink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit Sink(int fd) : fd_(fd) {}

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    const std::lock_guard<std::mutex> lock(OneWriter());
    if (lost_ > 0) {
      const std::string words =
          StrCat(lost_, lost_ == 1 ? " line" : " lines",
                 " of the log were lost, because nobody read the log");
      if (!Write(Line({"", spdlog::level::warn, words}))) {
        ++lost_;
        return;
      }
      lost_ = 0;
    }
    if (!Write(Line(message))) ++lost_;
  }
  void flush_() override {}

 private:
  std::string Line(const spdlog::details::log_msg& message) {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    return std::string(line.data(), line.size());
  }

  // False when it can't be written now.
  bool Write(const std::string& text) {
    const std::string line = torn_ ? StrCat("\n", text) : text;
    size_t done = 0;
    while (done < line.size()) {
      pollfd ready = {fd_, POLLOUT, 0};
      const bool now = poll(&ready, 1, 0) == 1 && (ready.revents & POLLOUT);
      const ssize_t count =
          now ? write(fd_, line.data() + done,
                      std::min(kPieceBytes, line.size() - done))
              : -1;
      if (now && count < 0 && errno == EINTR) continue;
      if (count < 0) {
        torn_ = torn_ || done > 0;
        return false;
      }
      done += static_cast<size_t>(count);
    }
    torn_ = false;
    return true;
  }

  const int fd_;
  int64_t lost_ = 0;   // lines
  bool torn_ = false;  // the last piece that was written ended inside a line
};

std::shared_ptr<spdlog::logger>& StdoutLogger() {
  static auto* const kLogger = new std::shared_ptr<spdlog::logger>(
      std::make_shared<spdlog::logger>("stdout", MakeSink(STDOUT_FILENO)));
  return *kLogger;
}

spdlog::logger& RequestLogger() {
  static auto* const kLogger = [] {
    auto* logger = new spdlog::logger("requests", MakeSink(STDERR_FILENO));
    logger->set_formatter(std::make_unique<RequestFormatter>());
    return logger;
  }();
  return *kLogger;
}

}  // namespace

std::string Escaped(std::string_view message) {
  std::string out;
  while (!message.empty()) {
    const Utf8Sequence next = FirstUtf8Sequence(message);
    const std::string_view bytes = message.substr(0, next.length);
    const bool control = next.code_point < 0x20 ||
                         (next.code_point >= 0x7f && next.code_point < 0xa0);
    if (next.kind == Utf8Sequence::kWhole && !control) {
      out += bytes;
    } else if (bytes == "\n") {
      out += "\\n";
    } else if (bytes == "\r") {
      out += "\\r";
    } else if (bytes == "\t") {
      out += "\\t";
    } else {
      for (const char byte : bytes) {
        absl::StrAppendFormat(&out, "\\x%02x",
                              static_cast<unsigned char>(byte));
      }
    }
    message.remove_prefix(next.length);
  }
  return out;
}

std::unique_ptr<spdlog::formatter> MakeFormatter(LogFormat format) {
  return std::make_unique<Formatter>(format);
}

std::shared_ptr<spdlog::sinks::sink> MakeSink(int fd) {
  return std::make_shared<Sink>(fd);
}

void SetUpLog(LogFormat format) {
  auto logger =
      std::make_shared<spdlog::logger>("ounce", MakeSink(STDERR_FILENO));
  logger->set_formatter(MakeFormatter(format));
  spdlog::set_default_logger(std::move(logger));
  StdoutLogger()->set_formatter(MakeFormatter(format));
}

void LogRequest(const std::string& fields) { RequestLogger().info(fields); }

void Announce(const std::string& message) { StdoutLogger()->info(message); }

}  // namespace ounce::server
