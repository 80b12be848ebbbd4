// How fast a served model is, seen from here, and what that costs the server.
//
// Errors: those of Generate, DetectObjects and GetServer.
#ifndef OUNCE_CLIENT_SPEED_H_
#define OUNCE_CLIENT_SPEED_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/client.h"

namespace ounce::client {

// What the server used for one token or picture: of the whole process, what
// others asked of it meanwhile included.
struct ServerUse {
  std::optional<double> cpu_seconds;
  std::optional<double> joules;  // absent where the server can't tell
};

struct TextSpeed {
  // New tokens of one greedy stream, the prompt not counted, and of eight
  // together while all of them run; absent where streams ended too soon.
  std::optional<double> tokens_per_second;
  std::optional<double> tokens_per_second_of_8;
  // From the request to its first token, the median of some prompts.
  std::optional<double> first_token_seconds;
  ServerUse per_token;  // of the one stream
};

// Streams go on until `new_tokens` each have come, longer where that is done in
// a blink. Prompts are runs of `prompt_tokens` ids of `ids`, each from another
// place. Requires 0 < prompt_tokens <= ids.size().
absl::StatusOr<TextSpeed> MeasureTextSpeed(Client& client,
                                           const std::string& model,
                                           absl::Span<const int32_t> ids,
                                           int64_t prompt_tokens,
                                           int64_t new_tokens);

struct PictureSpeed {
  double seconds = 0;  // in the model, the median
  ServerUse per_picture;
};

// One picture after the other, all of them once or more. Requires at least one.
absl::StatusOr<PictureSpeed> MeasurePictureSpeed(
    Client& client, const std::string& model,
    const std::vector<std::string>& pictures);

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_SPEED_H_
