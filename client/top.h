// What `ounce top` shows: the load of a server between two looks at it.
#ifndef OUNCE_CLIENT_TOP_H_
#define OUNCE_CLIENT_TOP_H_

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "ounce/v1/model_admin.pb.h"

namespace ounce::client {

struct Look {
  absl::Time time;  // by the monotonic clock
  v1::Server server;
  v1::ListModelsResponse models;
};

// New tokens a second, of a model that generates text; nothing without an
// earlier look, and for one that was not there (or began anew) in between.
std::optional<double> TokensPerSecond(const v1::Model& model, const Look& now,
                                      const std::optional<Look>& before);
// Pictures a second, of a model that detects objects; nothing in the same
// cases.
std::optional<double> PicturesPerSecond(const v1::Model& model, const Look& now,
                                        const std::optional<Look>& before);

// A line about the server, and a table with a line per model.
std::string TopText(const Look& now, const std::optional<Look>& before);

// The same, for programs; without tokens_per_second and pictures_per_second
// where they are unknown.
nlohmann::ordered_json TopJson(const Look& now,
                               const std::optional<Look>& before);

// `text` in place of all that a terminal of this size shows; of what does not
// fit, the lines' ends and the last lines are left out.
std::string Screen(const std::string& text, int columns, int rows);

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_TOP_H_
