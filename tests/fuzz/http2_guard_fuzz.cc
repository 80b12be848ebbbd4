// Whatever a client and a server send, in whatever pieces: the guard neither
// crashes nor loses count of what a peer holds, and passes on to the server no
// byte that the client did not send.
#include <fuzzer/FuzzedDataProvider.h>

#include <string>

#include "base/check.h"
#include "server/net/http2_guard.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using ounce::server::Http2Guard;
  using ounce::server::Peer;
  using ounce::server::Shares;
  using ounce::server::TokenBucket;
  FuzzedDataProvider input(data, size);
  absl::Time now = absl::UnixEpoch();
  Peer peer{.streams = TokenBucket({100, 50}, now),
            .resets = TokenBucket({20, 5}, now)};
  Shares shares(Shares::Limits{{1 << 20, 4 << 20}, {1 << 20, 4 << 20}});
  {
    Http2Guard guard(Http2Guard::Limits{}, peer, shares, now);
    std::string sent = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", waiting, passed;
    waiting = sent;
    while (input.remaining_bytes() > 0) {
      std::string to_client;
      switch (input.ConsumeIntegralInRange(0, 3)) {
        case 0:
        case 1: {
          const std::string more = input.ConsumeRandomLengthString(1024);
          sent += more;
          waiting += more;
          waiting.erase(0, guard.FromClient(waiting, now, &passed));
          break;
        }
        case 2:
          guard.FromServer(input.ConsumeRandomLengthString(1024), now,
                           &to_client);
          break;
        default:
          now += absl::Milliseconds(input.ConsumeIntegralInRange(0, 20'000));
          guard.Tick(now, input.ConsumeBool(), &to_client);
      }
    }
    OUNCE_CHECK(sent.starts_with(passed), "only what the client sent");
  }
  OUNCE_CHECK(peer.bytes[0] == 0 && peer.bytes[1] == 0, "all is given back");
  return 0;
}
