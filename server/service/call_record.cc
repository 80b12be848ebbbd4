#include "server/service/call_record.h"

namespace ounce::server {

void Note(const GenerateResult& result, CallFacts& facts) {
  if (result.prompt_tokens == 0) return;
  if (result.model_version > 0) facts.version = result.model_version;
  facts.queued = result.queued;
  if (result.new_tokens > 0) facts.first_token = result.time_to_first_token;
  facts.tokens_in = result.prompt_tokens;
  facts.tokens_out = result.new_tokens;
}

void Note(const DetectResult& result, CallFacts& facts) {
  if (result.model_version == 0) return;
  facts.version = result.model_version;
  facts.queued = result.queued;
}

}  // namespace ounce::server
