// What a relay (server/net/relay.h) tells of its connections, as figures.
#ifndef OUNCE_SERVER_METRICS_CONNECTION_FIGURES_H_
#define OUNCE_SERVER_METRICS_CONNECTION_FIGURES_H_

#include <string>

#include "absl/strings/string_view.h"
#include "server/metrics/figures.h"
#include "server/net/relay.h"

namespace ounce::server {

// Sets `on_count` and `on_cut`; the figures are there from now on, at 0.
// `figures` must outlive the relay.
inline void CountConnections(const std::string& listener, Figures& figures,
                             Relay::Callbacks* callbacks) {
  figures.Set(metric::kConnections, {listener}, 0);
  for (const char* reason : kCutReasons) {
    figures.Add(metric::kConnectionsCut, {listener, reason}, 0);
  }
  callbacks->on_count = [&figures, listener](int connections) {
    figures.Set(metric::kConnections, {listener}, connections);
  };
  callbacks->on_cut = [&figures, listener](absl::string_view reason) {
    figures.Add(metric::kConnectionsCut, {listener, std::string(reason)});
  };
}

}  // namespace ounce::server

#endif  // OUNCE_SERVER_METRICS_CONNECTION_FIGURES_H_
