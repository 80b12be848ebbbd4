#include "server/net/http2_guard.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ounce::server {
namespace {

constexpr absl::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

enum FrameType : uint8_t {
  kData = 0,
  kHeaders = 1,
  kReset = 3,
  kSettings = 4,
  kPushPromise = 5,
  kGoAway = 7,
  kWindowUpdate = 8,
  kContinuation = 9,
};
constexpr uint8_t kEndStream = 0x1;
constexpr uint8_t kAck = 0x1;
constexpr uint8_t kEndHeaders = 0x4;

constexpr uint16_t kInitialWindowSize = 0x4;
constexpr uint16_t kMaxFrameSize = 0x5;
constexpr size_t kSettingBytes = 6;

// In a GOAWAY: whatever stream there is or will be.
constexpr uint32_t kAnyStream = 0x7fffffff;
// What gRPC's core says in its GOAWAY, behind the last stream, with kCalm.
constexpr absl::string_view kTooManyPings = "too_many_pings";

// A frame of DATA that is smaller than this and not the last carries nothing.
constexpr uint32_t kSmallData = 128;
// What a frame that the server sends lets the client send in frames without
// content: acknowledgements and new windows.
constexpr double kFramesPerAnswer = 4;
constexpr double kHeaderBytesPerStream = 1024;
// Of trailers that are looked at; and of a frame that every client takes.
constexpr uint32_t kMaxBareBytes = 4096;
constexpr size_t kMaxAnyFrame = 16'384;

uint32_t Number(const char* bytes, int count) {
  uint32_t number = 0;
  for (int i = 0; i < count; ++i) {
    number = number << 8 | static_cast<uint8_t>(bytes[i]);
  }
  return number;
}

void AppendNumber(uint32_t number, int count, std::string* out) {
  for (int i = count - 1; i >= 0; --i) {
    out->push_back(static_cast<char>(number >> (8 * i)));
  }
}

void AppendHead(uint32_t length, FrameType type, uint32_t stream,
                std::string* out) {
  AppendNumber(length, 3, out);
  out->push_back(static_cast<char>(type));
  out->push_back(0);
  AppendNumber(stream, 4, out);
}

}  // namespace

uint32_t Http2Guard::Head::length() const { return Number(bytes, 3); }

uint32_t Http2Guard::Head::stream() const {
  return Number(bytes + 5, 4) & 0x7fffffff;
}

bool Http2Guard::Head::Complete(absl::string_view* from) {
  const size_t more = std::min(sizeof(bytes) - size, from->size());
  std::memcpy(bytes + size, from->data(), more);
  size += more;
  from->remove_prefix(more);
  return size == sizeof(bytes);
}

Http2Guard::Http2Guard(const Limits& limits, Peer& peer, Shares& shares,
                       absl::Time now, const CompleteTrailers* complete)
    : limits_(limits),
      peer_(peer),
      shares_(shares),
      complete_(complete),
      begun_(now),
      frames_(limits.frames, now) {}

Http2Guard::~Http2Guard() {
  for (auto& [id, stream] : streams_) GiveBack(stream);
}

size_t Http2Guard::FromClient(absl::string_view bytes, absl::Time now,
                              std::string* out) {
  const size_t given = bytes.size();
  if (fault_.has_value() || !TakePreface(&bytes, out)) return given;
  while (!bytes.empty() || (client_head_.size == 9 && !client_passed_)) {
    if (!client_passed_) {
      if (!client_head_.Complete(&bytes)) break;
      const Verdict verdict = Judge(client_head_, now);
      if (verdict == Verdict::kFault) return given;
      if (verdict == Verdict::kWait) break;
      client_passed_ = true;
      client_left_ = client_head_.length();
      (block_stream_ != 0 ? &block_ : out)->append(client_head_.bytes, 9);
    }
    const size_t payload = std::min<size_t>(client_left_, bytes.size());
    (block_stream_ != 0 ? &block_ : out)->append(bytes.data(), payload);
    bytes.remove_prefix(payload);
    client_left_ -= static_cast<uint32_t>(payload);
    if (client_left_ > 0) break;
    if (block_stream_ != 0 && (client_head_.flags() & kEndHeaders) != 0) {
      out->append(block_);
      block_ = std::string();
      block_stream_ = 0;
    }
    client_head_.size = 0;
    client_passed_ = false;
  }
  return given - bytes.size();
}

bool Http2Guard::TakePreface(absl::string_view* bytes, std::string* out) {
  if (preface_ == kPreface.size()) return true;
  const absl::string_view come = bytes->substr(0, kPreface.size() - preface_);
  if (come != kPreface.substr(preface_, come.size())) {
    Fail(Fault::kNotHttp2);
    return false;
  }
  out->append(come.data(), come.size());
  preface_ += come.size();
  bytes->remove_prefix(come.size());
  return true;
}

Http2Guard::Verdict Http2Guard::Fail(Fault fault) {
  fault_ = fault;
  return Verdict::kFault;
}

Http2Guard::Verdict Http2Guard::OverRate(const TokenBucket& bucket,
                                         absl::Time now) {
  return bucket.Short(now) > limits_.patience ? Fail(Fault::kRate)
                                              : Verdict::kWait;
}

Http2Guard::Verdict Http2Guard::OverShare(absl::Time now) {
  over_share_since_ = std::min(over_share_since_, now);
  return now - over_share_since_ > limits_.patience ? Fail(Fault::kShare)
                                                    : Verdict::kWait;
}

Http2Guard::Verdict Http2Guard::TakeFrame(absl::Time now) {
  return frames_.Take(now) ? Verdict::kPass : OverRate(frames_, now);
}

Http2Guard::Verdict Http2Guard::Judge(const Head& head, absl::Time now) {
  if (head.length() > max_frame_) return Fail(Fault::kFrame);
  const bool continues = head.type() == kContinuation;
  if (continues != (block_stream_ != 0) ||
      (continues && head.stream() != block_stream_)) {
    return Fail(Fault::kFrame);
  }
  if (!started_) {
    if (head.type() != kSettings) return Fail(Fault::kFrame);
    started_ = true;
  }
  switch (head.type()) {
    case kData:
      return JudgeData(head, now);
    case kHeaders:
    case kContinuation:
      return JudgeHeaders(head, now);
    case kReset:
      return JudgeReset(head, now);
    case kPushPromise:
      return Fail(Fault::kFrame);
    default:
      return TakeFrame(now);
  }
}

Http2Guard::Verdict Http2Guard::JudgeHeaders(const Head& head, absl::Time now) {
  if (static_cast<int64_t>(block_.size()) + head.length() >
      limits_.header_block_bytes) {
    return Fail(Fault::kHeaderBlock);
  }
  // Many headers cost as much as several streams.
  const double cost = head.length() / kHeaderBytesPerStream;
  if (head.type() == kContinuation) {
    if (!peer_.streams.Take(now, cost)) return Verdict::kWait;
    return ++block_continuations_ > limits_.continuations
               ? Fail(Fault::kHeaderBlock)
               : Verdict::kPass;
  }
  const uint32_t id = head.stream();
  if (id == 0) return Fail(Fault::kFrame);
  if (id > last_stream_) {
    if (static_cast<int>(streams_.size()) >= limits_.streams) {
      return Fail(Fault::kStreams);
    }
    if (!peer_.streams.Take(now, 1 + cost)) return Verdict::kWait;
    last_stream_ = id;
    ++streams_seen_;
    streams_[id];
  } else {  // trailers, which cost as much to read
    const Verdict verdict = TakeFrame(now);
    if (verdict != Verdict::kPass) return verdict;
    if (!peer_.streams.Take(now, cost)) return Verdict::kWait;
  }
  block_stream_ = id;
  block_continuations_ = 0;
  block_begun_ = now;
  if ((head.flags() & kEndStream) != 0) {
    const auto stream = streams_.find(id);
    if (stream != streams_.end()) {
      stream->second.client_done = true;
      Settle(stream, false);
    }
  }
  return Verdict::kPass;
}

Http2Guard::Verdict Http2Guard::JudgeData(const Head& head, absl::Time now) {
  const bool last = (head.flags() & kEndStream) != 0;
  const int64_t length = head.length();
  const auto found = streams_.find(head.stream());
  if (length < kSmallData && !last) {
    const Verdict verdict = TakeFrame(now);
    if (verdict != Verdict::kPass) return verdict;
  }
  if (found == streams_.end()) return Verdict::kPass;  // it was just closed
  Stream& stream = found->second;
  if (stream.received + length > first_window_ + stream.allowed) {
    return Fail(Fault::kFlowControl);
  }
  if (!stream.answered) {
    const int64_t more =
        std::min(stream.received + length, first_window_) -
        stream.charged[static_cast<size_t>(Account::kFirstWindows)];
    if (more > 0) {
      if (!shares_.MayTake(peer_, Account::kFirstWindows, more)) {
        return OverShare(now);
      }
      over_share_since_ = absl::InfiniteFuture();
      Charge(stream, Account::kFirstWindows, more);
    }
  }
  stream.received += length;
  request_bytes_ += length;
  if (last) {
    stream.client_done = true;
    Settle(found, false);
  }
  return Verdict::kPass;
}

Http2Guard::Verdict Http2Guard::JudgeReset(const Head& head, absl::Time now) {
  const auto stream = streams_.find(head.stream());
  if (stream == streams_.end()) return TakeFrame(now);
  if (!peer_.resets.Take(now)) return OverRate(peer_.resets, now);
  Remove(stream);
  return Verdict::kPass;
}

void Http2Guard::Charge(Stream& stream, Account account, int64_t bytes) {
  stream.charged[static_cast<size_t>(account)] += bytes;
  shares_.Take(peer_, account, bytes);
}

void Http2Guard::GiveBack(Stream& stream) {
  for (const Account account :
       {Account::kFirstWindows, Account::kLargeMessages}) {
    int64_t& charged = stream.charged[static_cast<size_t>(account)];
    shares_.GiveBack(peer_, account, charged);
    charged = 0;
  }
  if (stream.held > 0) --held_streams_;
  stream.held = 0;
}

void Http2Guard::Remove(Streams::iterator stream) {
  GiveBack(stream->second);
  streams_.erase(stream);
}

// A stream that both sides have ended is gone; of one whose message the server
// has read, no bytes are held.
void Http2Guard::Settle(Streams::iterator stream, bool server_done) {
  Stream& state = stream->second;
  if (server_done && state.client_done) {
    Remove(stream);
  } else if (state.answered && state.client_done) {
    GiveBack(state);
  }
}

void Http2Guard::FromServer(absl::string_view bytes, absl::Time now,
                            std::string* out) {
  while (!bytes.empty()) {
    if (server_left_ == 0) {
      if (!server_head_.Complete(&bytes)) break;
      server_left_ = server_head_.length();
      server_held_ = HoldsServerFrame();
      if (!server_held_) out->append(server_head_.bytes, 9);
      server_payload_.clear();
    }
    const size_t payload = std::min<size_t>(server_left_, bytes.size());
    if (server_held_ || server_head_.type() == kSettings ||
        server_head_.type() == kGoAway) {
      server_payload_.append(bytes.data(), payload);
    }
    if (!server_held_) out->append(bytes.data(), payload);
    bytes.remove_prefix(payload);
    server_left_ -= static_cast<uint32_t>(payload);
    if (server_left_ > 0) break;
    ServerFrame(out);
    server_head_.size = 0;
    if (retiring_) AskForNoMore(out);
  }
  if (held_streams_ > 0) Grant(now, out);
}

// Whether a frame goes on to the client only once it is whole, if at all.
bool Http2Guard::HoldsServerFrame() const {
  const Head& head = server_head_;
  if (head.type() == kWindowUpdate) return true;
  return complete_ != nullptr && head.type() == kHeaders &&
         head.flags() == (kEndStream | kEndHeaders) &&
         head.length() <= kMaxBareBytes && streams_.contains(head.stream());
}

void Http2Guard::ServerTrailers(std::string* out) {
  std::string& block = server_payload_;
  if (const auto trailers = ReadBareTrailers(block); trailers.has_value()) {
    const size_t size = block.size();
    (*complete_)(*trailers, &block);
    if (block.size() > kMaxAnyFrame) block.resize(size);
  }
  AppendNumber(static_cast<uint32_t>(block.size()), 3, out);
  out->append(server_head_.bytes + 3, 6);
  out->append(block);
}

// A frame of the server has come to its end.
void Http2Guard::ServerFrame(std::string* out) {
  const uint8_t type = server_head_.type();
  if (type == kHeaders || type == kContinuation) {
    server_block_ = (server_head_.flags() & kEndHeaders) == 0;
  }
  if (type == kWindowUpdate) {
    ServerWindow(out);
    return;
  }
  if (server_held_) ServerTrailers(out);
  if (type == kSettings && (server_head_.flags() & kAck) == 0) {
    server_started_ = true;
    ServerSettings();
    return;
  }
  if (type == kGoAway) {
    const absl::string_view payload = server_payload_;
    too_many_pings_ =
        too_many_pings_ ||
        (payload.size() > 8 && payload.substr(8) == kTooManyPings &&
         Number(payload.data() + 4, 4) == static_cast<uint32_t>(GoAway::kCalm));
  }
  if (type != kData && type != kHeaders && type != kReset) return;
  frames_.Add(kFramesPerAnswer);
  const auto stream = streams_.find(server_head_.stream());
  if (stream == streams_.end()) return;
  if (type == kReset) {
    Remove(stream);
    return;
  }
  stream->second.answered = true;
  Settle(stream, (server_head_.flags() & kEndStream) != 0);
}

void Http2Guard::ServerSettings() {
  const std::string& payload = server_payload_;
  for (size_t i = 0; i + kSettingBytes <= payload.size(); i += kSettingBytes) {
    const uint32_t id = Number(payload.data() + i, 2);
    const uint32_t value = Number(payload.data() + i + 2, 4);
    // A smaller window holds only once the client has heard of it.
    if (id == kInitialWindowSize) {
      first_window_ = std::max<int64_t>(first_window_, value);
    }
    if (id == kMaxFrameSize) max_frame_ = std::max(max_frame_, value);
  }
}

void Http2Guard::ServerWindow(std::string* out) {
  const auto stream = streams_.find(server_head_.stream());
  if (server_payload_.size() != 4 || stream == streams_.end()) {
    out->append(server_head_.bytes, 9);
    out->append(server_payload_);
    return;
  }
  const uint32_t more = Number(server_payload_.data(), 4) & 0x7fffffff;
  if (more == 0) return;
  if (stream->second.held == 0) ++held_streams_;
  stream->second.held += more;
}

// Lets streams go on in the order in which they were opened, as far as there is
// room.
void Http2Guard::Grant(absl::Time now, std::string* out) {
  if (server_left_ > 0 || fault_.has_value()) return;
  for (auto& [id, stream] : streams_) {
    if (stream.held == 0) continue;
    // All of a message that was let begin may come: else two that are half here
    // would wait for each other.
    if (!stream.answered) {
      if (stream.allowed == 0 &&
          !shares_.MayTake(peer_, Account::kLargeMessages, stream.held)) {
        continue;
      }
      Charge(stream, Account::kLargeMessages, stream.held);
    }
    if (stream.allowed == 0) stream.allowed_at = now;
    stream.allowed += stream.held;
    AppendHead(4, kWindowUpdate, id, out);
    AppendNumber(static_cast<uint32_t>(stream.held), 4, out);
    stream.held = 0;
    --held_streams_;
  }
}

void Http2Guard::Tick(absl::Time now, bool others_wait,
                      std::string* to_client) {
  if (fault_.has_value()) return;
  if (!started_ && now - begun_ > limits_.start) {
    Fail(Fault::kSlowStart);
    return;
  }
  if (block_stream_ != 0 && now - block_begun_ > limits_.header_block) {
    Fail(Fault::kSlowHeaders);
    return;
  }
  if (others_wait) {
    for (const auto& [id, stream] : streams_) {
      if (stream.allowed > 0 && !stream.client_done &&
          now - stream.allowed_at > limits_.upload) {
        Fail(Fault::kSlowUpload);
        return;
      }
    }
  }
  if (held_streams_ > 0) Grant(now, to_client);
}

void Http2Guard::Retire(std::string* out) {
  retiring_ = true;
  AskForNoMore(out);
}

void Http2Guard::AskForNoMore(std::string* out) {
  if (!server_started_ || server_block_ || server_left_ > 0) return;
  retiring_ = false;
  AppendHead(8, FrameType::kGoAway, 0, out);
  AppendNumber(kAnyStream, 4, out);
  AppendNumber(static_cast<uint32_t>(GoAway::kNoError), 4, out);
}

std::string Http2Guard::Farewell(absl::string_view why, GoAway code) const {
  std::string frame;
  if (server_left_ > 0) return frame;
  AppendHead(static_cast<uint32_t>(8 + why.size()), FrameType::kGoAway, 0,
             &frame);
  AppendNumber(last_stream_, 4, &frame);
  AppendNumber(static_cast<uint32_t>(code), 4, &frame);
  absl::StrAppend(&frame, why);
  return frame;
}

absl::string_view FaultName(Http2Guard::Fault fault) {
  switch (fault) {
    case Http2Guard::Fault::kNotHttp2:
      return "not_http2";
    case Http2Guard::Fault::kSlowStart:
      return "slow_start";
    case Http2Guard::Fault::kHeaderBlock:
      return "header_block";
    case Http2Guard::Fault::kSlowHeaders:
      return "slow_headers";
    case Http2Guard::Fault::kFrame:
      return "frame";
    case Http2Guard::Fault::kFlowControl:
      return "flow_control";
    case Http2Guard::Fault::kStreams:
      return "streams";
    case Http2Guard::Fault::kRate:
      return "rate";
    case Http2Guard::Fault::kShare:
      return "share";
    case Http2Guard::Fault::kSlowUpload:
      return "slow_upload";
  }
  return "";
}

absl::string_view FaultText(Http2Guard::Fault fault) {
  switch (fault) {
    case Http2Guard::Fault::kNotHttp2:
      return "this port speaks gRPC over HTTP/2, and nothing else";
    case Http2Guard::Fault::kSlowStart:
      return "the connection did not start in time";
    case Http2Guard::Fault::kHeaderBlock:
      return "the headers of a call are too large";
    case Http2Guard::Fault::kSlowHeaders:
      return "the headers of a call did not come in time";
    case Http2Guard::Fault::kFrame:
      return "a frame is not as HTTP/2 has it";
    case Http2Guard::Fault::kFlowControl:
      return "a stream sent more than its window";
    case Http2Guard::Fault::kStreams:
      return "too many open calls";
    case Http2Guard::Fault::kRate:
      return "too many calls, cancellations or frames without content";
    case Http2Guard::Fault::kShare:
      return "too many bytes of calls that wait for an answer";
    case Http2Guard::Fault::kSlowUpload:
      return "a large message came too slowly while others waited";
  }
  return "";
}

}  // namespace ounce::server
