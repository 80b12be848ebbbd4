// Follows the frames of one HTTP/2 connection in both directions and lets
// through what a well-meant client sends, so that what stands behind it meets
// nothing else. It reads frame headers only (9 bytes each); header blocks stay
// compressed and messages opaque.
//
//   client --> FromClient() --> server
//   client <-- FromServer() <-- server
//
// What it holds to its limits:
// - The connection starts with the preface and a SETTINGS frame, in time.
// - A header block (HEADERS with its CONTINUATIONs) is passed on whole or not
//   at all: within so many bytes, frames and seconds. A parser behind it never
//   sees an unfinished one.
// - New streams, resets of streams not yet answered, and frames that carry
//   nothing (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, ...) have
//   rates. Who is over a rate waits: no more is read. Who keeps resetting or
//   sending nothing at more than the rate is cut off.
// - Large messages. A stream may send its first window (64 KiB) at once. What
//   the server allows it beyond that (WINDOW_UPDATE) is held back until the
//   peer's and everybody's share has room, so that one peer's uploads come in a
//   few at a time and nobody's small requests wait for them.
//
// To the trailers that gRPC's core writes by itself, more fields may be added
// (bare_trailers.h).
//
// Threads: one at a time, and all guards that share a Peer or Shares too.
// Ownership: `peer`, `shares` and `complete` must outlive it; what it holds of
//   shares goes back with the destructor.
// Errors: fault() says what the client did, once and for good; nothing more is
//   let through then.
#ifndef OUNCE_SERVER_NET_HTTP2_GUARD_H_
#define OUNCE_SERVER_NET_HTTP2_GUARD_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/net/bare_trailers.h"
#include "server/net/shares.h"
#include "server/net/token_bucket.h"

namespace ounce::server {

class Http2Guard {
 public:
  struct Limits {
    int64_t header_block_bytes = 32 << 10;            // compressed
    int continuations = 8;                            // in one header block
    int streams = 2048;                               // open at a time
    absl::Duration start = absl::Seconds(10);         // preface and SETTINGS
    absl::Duration header_block = absl::Seconds(10);  // from first byte to last
    absl::Duration patience = absl::Seconds(30);      // over a rate or a share
    // A message that others wait for has so long to come in.
    absl::Duration upload = absl::Seconds(30);
    TokenBucket::Rate frames{2000, 1000};  // that carry nothing
  };

  enum class Fault {
    kNotHttp2,
    kSlowStart,
    kHeaderBlock,
    kSlowHeaders,
    kFrame,  // not as HTTP/2 has it: too long, out of place
    kFlowControl,
    kStreams,
    kRate,
    kShare,
    kSlowUpload,
  };

  // `complete`: null for trailers as they are.
  Http2Guard(const Limits& limits, Peer& peer, Shares& shares, absl::Time now,
             const CompleteTrailers* complete = nullptr);
  ~Http2Guard();
  Http2Guard(const Http2Guard&) = delete;
  Http2Guard& operator=(const Http2Guard&) = delete;

  // Appends to `out` what may go on to the server. Returns how many bytes were
  // taken; fewer than given when the client has to wait: give it the rest again
  // later.
  size_t FromClient(absl::string_view bytes, absl::Time now, std::string* out);

  // Appends to `out` what may go on to the client. Takes all.
  void FromServer(absl::string_view bytes, absl::Time now, std::string* out);

  // Looks at the clock, and lets large messages go on if there is room now.
  // `others_wait`: a large message is held back somewhere.
  void Tick(absl::Time now, bool others_wait, std::string* to_client);

  std::optional<Fault> fault() const { return fault_; }
  // Whether the client has to wait.
  bool waits() const { return client_head_.size == 9 && !client_passed_; }
  // Whether a stream waits for room.
  bool holds_back() const { return held_streams_ > 0; }
  // Whether the server has sent the client away since it pings too often.
  bool too_many_pings() const { return too_many_pings_; }
  int open_streams() const { return static_cast<int>(streams_.size()); }
  // Request bytes let through so far.
  int64_t request_bytes() const { return request_bytes_; }
  int64_t streams_seen() const { return streams_seen_; }

  enum class GoAway : uint32_t { kNoError = 0x0, kCalm = 0xb };

  // Asks the client to make no more calls on this connection: appends a GOAWAY
  // that leaves all the calls that it makes until it hears of it, as soon as
  // one may stand between the server's frames (else FromServer does). Once.
  void Retire(std::string* out);

  // A GOAWAY frame that tells the client why; empty when the server is in the
  // midst of a frame.
  std::string Farewell(absl::string_view why, GoAway code) const;

 private:
  struct Stream {
    int64_t received = 0;         // bytes
    int64_t allowed = 0;          // bytes beyond the first window
    int64_t held = 0;             // bytes that the server allows, not told yet
    int64_t charged[2] = {0, 0};  // to the peer, by Account
    bool client_done = false;
    bool answered = false;
    absl::Time allowed_at;  // for the first time
  };
  using Streams = std::map<uint32_t, Stream>;

  // A frame's header as far as it has come.
  struct Head {
    char bytes[9];
    size_t size = 0;
    uint32_t length() const;
    uint8_t type() const { return static_cast<uint8_t>(bytes[3]); }
    uint8_t flags() const { return static_cast<uint8_t>(bytes[4]); }
    uint32_t stream() const;
    // Takes what is missing off `bytes`; true once it is whole.
    bool Complete(absl::string_view* from);
  };

  enum class Verdict { kPass, kWait, kFault };
  Verdict Judge(const Head& head, absl::Time now);
  Verdict JudgeHeaders(const Head& head, absl::Time now);
  Verdict JudgeData(const Head& head, absl::Time now);
  Verdict JudgeReset(const Head& head, absl::Time now);
  Verdict TakeFrame(absl::Time now);
  Verdict OverRate(const TokenBucket& bucket, absl::Time now);
  Verdict OverShare(absl::Time now);
  Verdict Fail(Fault fault);
  bool TakePreface(absl::string_view* bytes, std::string* out);

  bool HoldsServerFrame() const;
  void ServerFrame(std::string* out);
  void ServerTrailers(std::string* out);
  void AskForNoMore(std::string* out);
  void ServerSettings();
  void ServerWindow(std::string* out);
  void Grant(absl::Time now, std::string* out);
  void Charge(Stream& stream, Account account, int64_t bytes);
  void GiveBack(Stream& stream);
  void Remove(Streams::iterator stream);
  void Settle(Streams::iterator stream, bool server_done);

  const Limits limits_;
  Peer& peer_;
  Shares& shares_;
  const CompleteTrailers* const complete_;
  const absl::Time begun_;
  std::optional<Fault> fault_;
  TokenBucket frames_;
  Streams streams_;
  uint32_t last_stream_ = 0;
  int held_streams_ = 0;
  int64_t request_bytes_ = 0;
  int64_t streams_seen_ = 0;
  absl::Time over_share_since_ = absl::InfiniteFuture();

  // From the client.
  size_t preface_ = 0;    // bytes of it that have come
  bool started_ = false;  // a SETTINGS frame has come
  Head client_head_;
  bool client_passed_ = false;  // client_head_ was judged
  uint32_t client_left_ = 0;    // bytes of the frame to come
  std::string block_;           // a header block that isn't whole
  uint32_t block_stream_ = 0;   // 0: none
  int block_continuations_ = 0;
  absl::Time block_begun_;

  // From the server.
  bool server_started_ = false;  // its SETTINGS have passed
  bool server_block_ = false;    // a header block that isn't whole
  bool retiring_ = false;        // a GOAWAY is to be sent
  bool too_many_pings_ = false;  // the server's GOAWAY
  Head server_head_;
  uint32_t server_left_ = 0;
  bool server_held_ = false;    // the frame is not passed on as it comes
  std::string server_payload_;  // of a frame that is read, not only passed on
  int64_t first_window_ = 65'535;
  uint32_t max_frame_ = 16'384;
};

// What a client did, as a word for metrics and as a sentence for people.
absl::string_view FaultName(Http2Guard::Fault fault);
absl::string_view FaultText(Http2Guard::Fault fault);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_NET_HTTP2_GUARD_H_
