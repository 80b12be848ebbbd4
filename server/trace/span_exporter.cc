#include "server/trace/span_exporter.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/guard.h"
#include "base/thread.h"

namespace ounce::server {
namespace {

bool IsRetryable(int code) {
  return code == 429 || code == 502 || code == 503 || code == 504;
}

int64_t NumSpans(const std::vector<Work>& works) {
  int64_t spans = 0;
  for (const Work& work : works) spans += work.num_spans();
  return spans;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SpanExporter>> SpanExporter::Start(
    Options options, std::unique_ptr<HttpPoster> poster, const Clock& clock) {
  std::unique_ptr<SpanExporter> exporter(
      new SpanExporter(std::move(options), std::move(poster), clock));
  absl::StatusOr<std::thread> thread =
      StartThread("ounce-spans", [raw = exporter.get()] { raw->Run(); });
  if (!thread.ok()) return thread.status();
  exporter->thread_ = *std::move(thread);
  return exporter;
}

SpanExporter::SpanExporter(Options options, std::unique_ptr<HttpPoster> poster,
                           const Clock& clock)
    : options_(std::move(options)), poster_(std::move(poster)), clock_(clock) {}

void SpanExporter::Add(Work work) {
  const int64_t spans = work.num_spans();
  bool full = false;
  {
    MutexLock lock(&mu_);
    const bool first = queue_.empty();
    const absl::Status kept = Guarded([&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
      if (stopping_ || queued_ + spans > options_.max_queued) {
        return absl::ResourceExhaustedError("");
      }
      queue_.push_back(std::move(work));
      return absl::OkStatus();
    });
    if (!kept.ok()) {
      stats_.queue_full += spans;
      return;
    }
    queued_ += spans;
    if (first) oldest_ = clock_.Now();
    full = first || queued_ >= options_.batch;
  }
  if (full) changed_.Signal();
}

void SpanExporter::Stop(absl::Time deadline) {
  if (!thread_.joinable()) return;
  poster_->EndBy(deadline);
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    end_ = deadline;
  }
  changed_.Signal();
  thread_.join();
  const Stats now = stats();
  const int64_t lost = now.queue_full + now.refused + now.unreachable;
  if (lost > 0) {
    spdlog::warn("spans: {} sent, {} dropped since the start", now.sent, lost);
  }
}

SpanExporter::Stats SpanExporter::stats() const {
  MutexLock lock(&mu_);
  return stats_;
}

bool SpanExporter::stopping() const {
  MutexLock lock(&mu_);
  return stopping_;
}

void SpanExporter::CountSent(int64_t spans, int64_t rejected) {
  MutexLock lock(&mu_);
  stats_.sent += spans - rejected;
  stats_.refused += rejected;
}

void SpanExporter::CountLost(int64_t Stats::*why, int64_t spans) {
  MutexLock lock(&mu_);
  stats_.*why += spans;
}

void SpanExporter::TellTrouble(const std::string& why) {
  if (why.empty() == !in_trouble_) return;
  in_trouble_ = !why.empty();
  if (in_trouble_) {
    spdlog::warn("spans: {}", why);
  } else {
    spdlog::info("spans: the collector takes them again");
  }
}

std::vector<Work> SpanExporter::NextBatch() {
  std::vector<Work> batch;
  MutexLock lock(&mu_);
  while (!stopping_) {
    const absl::Duration wait = queue_.empty()
                                    ? absl::InfiniteDuration()
                                    : oldest_ + options_.delay - clock_.Now();
    if (queued_ >= options_.batch || wait <= absl::ZeroDuration()) break;
    changed_.WaitFor(&mu_, wait);
  }
  if (stopping_ && clock_.Now() >= end_) {
    stats_.unreachable += queued_;
    queue_.clear();
    return batch;
  }
  for (int64_t spans = 0; !queue_.empty() && spans < options_.batch;) {
    spans += queue_.front().num_spans();
    queued_ -= queue_.front().num_spans();
    batch.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  oldest_ = clock_.Now();
  return batch;
}

bool SpanExporter::Pause(absl::Duration duration) {
  const absl::Time end = clock_.Now() + duration;
  MutexLock lock(&mu_);
  while (!stopping_) {
    const absl::Duration left = end - clock_.Now();
    if (left <= absl::ZeroDuration()) return true;
    changed_.WaitFor(&mu_, left);
  }
  return clock_.Now() < end_;
}

void SpanExporter::Send(const std::vector<Work>& batch) {
  const int64_t spans = NumSpans(batch);
  const std::string body =
      OtlpJson(options_.resource, batch, options_.system_now() - clock_.Now(),
               [this] { return std::max<uint64_t>(options_.draw(), 1); });
  const absl::Time give_up = clock_.Now() + options_.patience;
  absl::Duration pause = options_.first_pause;
  while (true) {
    const bool last = stopping();
    const absl::StatusOr<HttpAnswer> answer = poster_->Post(body);
    absl::Duration wait = pause;
    if (answer.ok()) {
      if (answer->code / 100 == 2) {
        const int64_t rejected =
            std::clamp<int64_t>(RejectedSpans(answer->body), 0, spans);
        CountSent(spans, rejected);
        TellTrouble(rejected == 0 ? ""
                                  : absl::StrCat("the collector refused ",
                                                 rejected, " of ", spans));
        return;
      }
      TellTrouble(absl::StrCat("the collector answers HTTP ", answer->code));
      if (!IsRetryable(answer->code)) {
        CountLost(&Stats::refused, spans);
        return;
      }
      wait = std::max(wait, answer->retry_after);
    } else {
      TellTrouble(std::string(answer.status().message()));
    }
    // Not all at once, who lost the same collector.
    wait *= 1 + std::ldexp(static_cast<double>(options_.draw()), -66);
    wait = std::min(wait, options_.longest_pause);
    pause = std::min(2 * pause, options_.longest_pause);
    if (last || clock_.Now() + wait > give_up || !Pause(wait)) {
      CountLost(&Stats::unreachable, spans);
      return;
    }
  }
}

void SpanExporter::Run() {
  while (true) {
    const std::vector<Work> batch = NextBatch();
    if (batch.empty()) return;
    const absl::Status sent = Guarded([&] {
      Send(batch);
      return absl::OkStatus();
    });
    // Without memory for it.
    if (!sent.ok()) CountLost(&Stats::unreachable, NumSpans(batch));
  }
}

}  // namespace ounce::server
