#include "client/speed.h"

#include <algorithm>
#include <functional>
#include <future>
#include <utility>

#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/status_macros.h"

namespace ounce::client {
namespace {

constexpr int kRounds = 3;  // of one stream
constexpr size_t kManyStreams = 8;
// What is measured takes at least so long, if the streams do.
constexpr absl::Duration kLeast = absl::Milliseconds(200);
// What is over sooner says nothing: messages come in bursts.
constexpr double kLeastSeconds = 0.02;
constexpr double kLeastSecondsOfMany = 0.1;

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half]
                                : (values[half - 1] + values[half]) / 2;
}

ServerUse UseBetween(const v1::Server& before, const v1::Server& after,
                     double count) {
  ServerUse use;
  if (count <= 0) return use;
  use.cpu_seconds = (after.cpu_seconds() - before.cpu_seconds()) / count;
  if (before.has_energy_joules() && after.has_energy_joules() &&
      after.energy_joules() >= before.energy_joules()) {
    use.joules = (after.energy_joules() - before.energy_joules()) / count;
  }
  return use;
}

// Streams that run side by side, from the moment when all of them have a token
// to the one when enough came or one ended.
//
// Threads: any.
class Race {
 public:
  Race(size_t streams, int64_t wanted_tokens)
      : wanted_(wanted_tokens), start_(Clock::Real().Now()), began_(streams) {}

  // Whether more is wanted.
  bool Note(size_t stream, int64_t tokens) {
    const MutexLock lock(&mu_);
    const absl::Time now = Clock::Real().Now();
    if (over_) return false;
    if (tokens == 0) return true;
    if (!began_[stream]) {
      began_[stream] = true;
      first_tokens_.push_back(now - start_);
      if (first_tokens_.size() == began_.size()) all_began_ = last_ = now;
      return true;
    }
    if (first_tokens_.size() < began_.size()) return true;
    counted_ += tokens;
    last_ = now;
    over_ = counted_ >= wanted_ && now - all_began_ >= kLeast;
    return !over_;
  }
  void Ended() {
    const MutexLock lock(&mu_);
    over_ = true;
  }
  bool all_began() const {
    const MutexLock lock(&mu_);
    return first_tokens_.size() == began_.size();
  }
  int64_t counted() const {
    const MutexLock lock(&mu_);
    return counted_;
  }
  double seconds() const {
    const MutexLock lock(&mu_);
    return absl::ToDoubleSeconds(last_ - all_began_);
  }
  // Of the stream that began first.
  std::optional<double> first_token_seconds() const {
    const MutexLock lock(&mu_);
    if (first_tokens_.empty()) return std::nullopt;
    return absl::ToDoubleSeconds(first_tokens_.front());
  }

 private:
  const int64_t wanted_;
  const absl::Time start_;
  mutable Mutex mu_;
  std::vector<bool> began_ ABSL_GUARDED_BY(mu_);
  std::vector<absl::Duration> first_tokens_ ABSL_GUARDED_BY(mu_);
  absl::Time all_began_ ABSL_GUARDED_BY(mu_);
  absl::Time last_ ABSL_GUARDED_BY(mu_);
  int64_t counted_ ABSL_GUARDED_BY(mu_) = 0;
  bool over_ ABSL_GUARDED_BY(mu_) = false;
};

// `on_first` is called when a stream has its first token.
absl::Status RunStream(Client& client, const v1::GenerateRequest& request,
                       size_t stream, Race& race,
                       const std::function<void()>& on_first) {
  bool stopped = false;
  bool first = true;
  const absl::Status status =
      client.Generate(request, [&](const v1::GenerateResponse& response) {
        stopped = !race.Note(stream, response.token_ids_size());
        if (first && response.token_ids_size() > 0) {
          first = false;
          on_first();
        }
        return !stopped;
      });
  race.Ended();
  return stopped ? absl::OkStatus() : status;
}

class Prompts {
 public:
  Prompts(const std::string& model, absl::Span<const int32_t> ids,
          int64_t prompt_tokens, int64_t new_tokens)
      : model_(model),
        ids_(ids),
        prompt_tokens_(prompt_tokens),
        new_tokens_(new_tokens) {}

  v1::GenerateRequest Next() {
    v1::GenerateRequest request;
    request.set_model(model_);
    request.mutable_sampling()->set_temperature(0);
    auto& prompt = *request.mutable_prompt_token_ids()->mutable_ids();
    const auto size = static_cast<int64_t>(ids_.size());
    for (int64_t i = 0; i < prompt_tokens_; ++i) {
      prompt.Add(ids_[(next_ + i) % size]);
    }
    next_ += prompt_tokens_;
    // One is there before the race begins. 0: as many as the server likes.
    constexpr int64_t kServersChoice = 256;
    request.set_max_new_tokens(new_tokens_ < kServersChoice
                                   ? 0
                                   : static_cast<uint32_t>(new_tokens_ + 1));
    return request;
  }

 private:
  const std::string& model_;
  const absl::Span<const int32_t> ids_;
  const int64_t prompt_tokens_;
  const int64_t new_tokens_;
  int64_t next_ = 0;
};

}  // namespace

absl::StatusOr<TextSpeed> MeasureTextSpeed(Client& client,
                                           const std::string& model,
                                           absl::Span<const int32_t> ids,
                                           int64_t prompt_tokens,
                                           int64_t new_tokens) {
  Prompts prompts(model, ids, prompt_tokens, new_tokens);
  TextSpeed speed;
  int64_t tokens = 0;
  double seconds = 0;
  v1::Server before, after;  // sums
  std::vector<double> first_tokens;
  const auto add = [](const v1::Server& server, v1::Server* sum) {
    sum->set_cpu_seconds(sum->cpu_seconds() + server.cpu_seconds());
    if (server.has_energy_joules()) {
      sum->set_energy_joules(sum->energy_joules() + server.energy_joules());
    }
  };
  for (int i = 0; i < kRounds; ++i) {
    Race race(1, (new_tokens + kRounds - 1) / kRounds);
    absl::StatusOr<v1::Server> began;
    RETURN_IF_ERROR(RunStream(client, prompts.Next(), 0, race,
                              [&] { began = client.GetServer(); }));
    if (!race.all_began()) continue;
    RETURN_IF_ERROR(began.status());
    ASSIGN_OR_RETURN(const v1::Server ended, client.GetServer());
    add(*began, &before);
    add(ended, &after);
    first_tokens.push_back(*race.first_token_seconds());
    tokens += race.counted();
    seconds += race.seconds();
  }
  if (!first_tokens.empty()) speed.first_token_seconds = Median(first_tokens);
  if (tokens > 0 && seconds > kLeastSeconds) {
    speed.tokens_per_second = static_cast<double>(tokens) / seconds;
    speed.per_token = UseBetween(before, after, static_cast<double>(tokens));
  }

  for (int i = 0; i < kRounds && !speed.tokens_per_second_of_8; ++i) {
    Race race(kManyStreams, kManyStreams * new_tokens);
    std::vector<std::future<absl::Status>> streams;
    for (size_t stream = 0; stream < kManyStreams; ++stream) {
      streams.push_back(
          std::async(std::launch::async, [&, stream, request = prompts.Next()] {
            return RunStream(client, request, stream, race, [] {});
          }));
    }
    absl::Status status = absl::OkStatus();
    for (auto& stream : streams) status.Update(stream.get());
    RETURN_IF_ERROR(status);
    if (race.counted() >= static_cast<int64_t>(kManyStreams) &&
        race.seconds() > kLeastSecondsOfMany) {
      speed.tokens_per_second_of_8 =
          static_cast<double>(race.counted()) / race.seconds();
    }
  }
  return speed;
}

absl::StatusOr<PictureSpeed> MeasurePictureSpeed(
    Client& client, const std::string& model,
    const std::vector<std::string>& pictures) {
  constexpr size_t kLeastPictures = 8;
  v1::DetectObjectsRequest request;
  request.set_model(model);
  request.set_image(pictures.front());
  RETURN_IF_ERROR(client.DetectObjects(request).status());  // a warm-up
  std::vector<double> seconds;
  ASSIGN_OR_RETURN(const v1::Server before, client.GetServer());
  do {
    for (const std::string& picture : pictures) {
      request.set_image(picture);
      ASSIGN_OR_RETURN(const v1::DetectObjectsResponse response,
                       client.DetectObjects(request));
      seconds.push_back(response.model_seconds());
    }
  } while (seconds.size() < kLeastPictures);
  ASSIGN_OR_RETURN(const v1::Server after, client.GetServer());
  const auto count = static_cast<double>(seconds.size());
  return PictureSpeed{.seconds = Median(std::move(seconds)),
                      .per_picture = UseBetween(before, after, count)};
}

}  // namespace ounce::client
