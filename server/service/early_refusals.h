// What gRPC's core refuses by itself, before it is a call of any service's: for
// its token, because its message is too large, because it is compressed. The
// core sends such a caller a code and words alone. Here it gets what every
// refusal has: google.rpc's details, and a request id that the log knows.
#ifndef OUNCE_SERVER_SERVICE_EARLY_REFUSALS_H_
#define OUNCE_SERVER_SERVICE_EARLY_REFUSALS_H_

#include <string>

#include "absl/status/status.h"
#include "base/clock.h"
#include "server/metrics/figures.h"
#include "server/net/bare_trailers.h"
#include "server/service/reception.h"

namespace ounce::server {

// For a listener's Relay. Those of tokens have their id in their words; the
// others get one, are logged (a line every few seconds at most) and counted in
// `figures`, unless that is null. All must outlive the result.
//
// What ends calls that services know (CANCELLED, DEADLINE_EXCEEDED,
// UNAVAILABLE) is left as it is.
CompleteTrailers CompleteRefusals(const std::string& listener,
                                  const Reception& reception, Figures* figures,
                                  const Clock& clock);

// The same error, with " (request ID)" behind its words: all that the core
// carries from who judges tokens to who completes the refusal.
absl::Status WithRequestIdInWords(const absl::Status& status,
                                  const std::string& request_id);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_EARLY_REFUSALS_H_
