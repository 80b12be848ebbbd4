// A request of a GenerateScheduler on its way: its tokens, its KV blocks, the
// state of its output.
#ifndef OUNCE_SERVER_SCHEDULER_SEQUENCE_H_
#define OUNCE_SERVER_SCHEDULER_SEQUENCE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "model/tokenizer/tokenizer.h"
#include "server/scheduler/engine.h"
#include "server/scheduler/prefix_cache.h"
#include "server/scheduler/request.h"
#include "server/scheduler/stop_matcher.h"

namespace ounce::server {

// Threads: one at a time.
struct Sequence {
  Sequence(GenerateParams request, ResponseSink* response_sink,
           const model::Tokenizer& tokenizer)
      : params(std::move(request)),
        num_prompt(static_cast<int64_t>(params.prompt.size())),
        sink(response_sink),
        tokens(std::move(params.prompt)),
        decoder(tokenizer),
        stop_matcher(params.stop) {}

  const std::string& peer() const { return params.peer; }
  int64_t num_tokens() const { return static_cast<int64_t>(tokens.size()); }
  int64_t num_new() const { return num_tokens() - num_prompt; }
  int64_t num_uncached() const { return num_tokens() - num_cached; }
  int64_t num_blocks() const { return static_cast<int64_t>(blocks.size()); }

  // As a version computes them, for whoever may share them.
  Prefix FirstTokens(int64_t count, int64_t version) const {
    return {version, prefix_scope, absl::MakeConstSpan(tokens).first(count)};
  }

  bool started() const { return engine != nullptr; }
  // All but its last token, one of the new ones, are in the cache.
  bool decoding() const { return num_new() > 0 && num_uncached() == 1; }
  // Its reader is behind.
  bool paused() const { return paused_since != absl::InfiniteFuture(); }

  uint64_t id = 0;        // the order of arrival
  GenerateParams params;  // but for the prompt
  const int64_t num_prompt;
  ResponseSink* const sink;
  std::string prefix_scope;    // who may share its KV blocks; "": nobody
  int64_t max_new_tokens = 0;  // what fits the model's positions
  int64_t max_blocks = 0;      // for all of them

  std::shared_ptr<Engine> engine;  // of the version it began on
  bool running = false;            // RunningSequences has it

  std::vector<int32_t> blocks;
  std::vector<int32_t> tokens;  // prompt, then new ones
  int64_t num_cached = 0;       // of `tokens`, by the cache
  int64_t num_listed = 0;       // of `blocks`, for others to share
  // Prompt tokens that it found computed when it started.
  int64_t num_prompt_found = 0;
  // Prompt tokens that have been in the cache: computing them again for want of
  // blocks is not told.
  int64_t num_prompt_told = 0;

  model::StreamDecoder decoder;
  StopMatcher stop_matcher;

  // Since when every look at the sink found no room; InfiniteFuture: it had.
  absl::Time paused_since = absl::InfiniteFuture();
  bool stalled = false;  // paused for so long that others come first
  absl::Time first_step = absl::InfiniteFuture();
  absl::Time first_token = absl::InfiniteFuture();
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SCHEDULER_SEQUENCE_H_
