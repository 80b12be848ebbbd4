#include "server/net/http2_guard.h"

#include <memory>
#include <random>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "tests/server/net/http2_frames.h"

namespace ounce::server {
namespace {

using namespace ounce::testing;  // NOLINT: frames read like words here
using ::testing::EndsWith;
using ::testing::Eq;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Optional;
using Fault = Http2Guard::Fault;

constexpr int64_t kWindow = 65'535;  // the first of a stream
constexpr int64_t kMiB = 1 << 20;

class Http2GuardTest : public ::testing::Test {
 protected:
  Http2GuardTest() { Restart(); }

  void Restart() {
    guard_.reset();
    peer_ = NewPeer();
    shares_ = std::make_unique<Shares>(Shares::Limits{});
    guard_ = NewGuard(*peer_);
  }

  std::unique_ptr<Peer> NewPeer() {
    return std::make_unique<Peer>(
        Peer{.streams = TokenBucket({1000, 100}, now_),
             .resets = TokenBucket({100, 10}, now_)});
  }
  std::unique_ptr<Http2Guard> NewGuard(Peer& peer) {
    return std::make_unique<Http2Guard>(limits_, peer, *shares_, now_);
  }

  // What goes on to the server; what has to wait stays in waiting_.
  std::string Send(const std::string& bytes, Http2Guard& guard) {
    std::string out;
    waiting_ += bytes;
    waiting_.erase(0, guard.FromClient(waiting_, now_, &out));
    return out;
  }
  std::string Send(const std::string& bytes) { return Send(bytes, *guard_); }
  std::string Answer(const std::string& bytes, Http2Guard& guard) {
    std::string out;
    guard.FromServer(bytes, now_, &out);
    return out;
  }
  std::string Answer(const std::string& bytes) {
    return Answer(bytes, *guard_);
  }
  std::string Tick(bool others_wait = false) {
    std::string out;
    guard_->Tick(now_, others_wait, &out);
    return out;
  }

  static std::string Call(uint32_t stream, int flags = 0) {
    return Frame(kHeaders, kEndHeaders | flags, stream, "headers");
  }
  static std::string Window(uint32_t stream, int64_t bytes) {
    return Frame(kWindowUpdate, 0, stream,
                 Number(static_cast<uint32_t>(bytes), 4));
  }
  // DATA up to `bytes`, in frames of the largest size.
  static std::string Data(uint32_t stream, int64_t bytes, bool last = false) {
    std::string frames;
    for (int64_t left = bytes; left > 0;) {
      const int64_t size = std::min<int64_t>(left, 16'384);
      left -= size;
      frames += Frame(kData, last && left == 0 ? kEndStream : 0, stream,
                      std::string(static_cast<size_t>(size), 'x'));
    }
    return frames;
  }

  absl::Time now_ = absl::UnixEpoch();
  Http2Guard::Limits limits_;
  std::unique_ptr<Peer> peer_;
  std::unique_ptr<Shares> shares_;
  std::unique_ptr<Http2Guard> guard_;
  std::string waiting_;
};

TEST_F(Http2GuardTest, PassesOnWhatAWellMeantClientAndServerSay) {
  const std::string client =
      Start() + Frame(kSettings, kAck, 0) + Call(1) + Data(1, 40'000, true) +
      Frame(kPing, 0, 0, "12345678") + Window(0, 1000) +
      Frame(kHeaders, kEndStream, 3, "half") +
      Frame(kContinuation, kEndHeaders, 3, "the rest") +
      Frame(kReset, 0, 3, Number(8, 4)) + Frame(kGoAway, 0, 0, "12345678");
  const std::string server =
      Frame(kSettings, 0, 0) + Window(0, 100) + Call(1) + Data(1, 10) +
      Frame(kPing, kAck, 0, "12345678") +
      Frame(kHeaders, kEndHeaders | kEndStream, 1, "trailers");
  // In pieces of every size, the same bytes come out.
  for (size_t piece = 1; piece < 40; ++piece) {
    Restart();
    std::string to_server, to_client;
    for (size_t i = 0; i < client.size(); i += piece) {
      to_server += Send(client.substr(i, piece));
    }
    for (size_t i = 0; i < server.size(); i += piece) {
      to_client += Answer(server.substr(i, piece));
    }
    EXPECT_EQ(to_server, client) << piece;
    EXPECT_EQ(to_client, server) << piece;
    EXPECT_EQ(guard_->fault(), std::nullopt) << piece;
    EXPECT_EQ(guard_->open_streams(), 0) << piece;
    EXPECT_EQ(guard_->request_bytes(), 40'000);
  }
}

TEST_F(Http2GuardTest, CompletesTheTrailersThatGrpcWritesByHand) {
  const CompleteTrailers complete = [](const BareTrailers& trailers,
                                       std::string* block) {
    AppendField("told", absl::StrCat(trailers.code, " ", trailers.message),
                block);
  };
  const std::string refusal =
      Field("grpc-status", "8") + Field("grpc-message", "full");
  const int end = kEndHeaders | kEndStream;
  const std::string server =
      Frame(kSettings, 0, 0) + Frame(kHeaders, end, 1, refusal) +
      Frame(kReset, 0, 1, Number(0, 4)) + Frame(kHeaders, end, 3, "trailers") +
      Frame(kHeaders, kEndHeaders, 5, refusal) +  // not the last of its stream
      Frame(kHeaders, end, 5, refusal + refusal) +
      Frame(kHeaders, end, 9, refusal);  // of a stream that is over
  std::string expected = server;
  const size_t at = Frame(kSettings, 0, 0).size();
  expected.replace(at, Frame(kHeaders, end, 1, refusal).size(),
                   Frame(kHeaders, end, 1, refusal + Field("told", "8 full")));
  for (size_t piece = 1; piece < 100; ++piece) {
    Restart();
    guard_ = std::make_unique<Http2Guard>(limits_, *peer_, *shares_, now_,
                                          &complete);
    Send(Start() + Call(1, kEndStream) + Call(3) + Call(5));
    std::string to_client;
    for (size_t i = 0; i < server.size(); i += piece) {
      to_client += Answer(server.substr(i, piece));
    }
    EXPECT_EQ(to_client, expected) << piece;
  }
}

// What has been held back of a frame comes, whatever becomes of its stream.
TEST_F(Http2GuardTest, PassesOnTrailersOfAStreamThatIsResetMeanwhile) {
  const CompleteTrailers complete = [](const BareTrailers&, std::string*) {};
  guard_ =
      std::make_unique<Http2Guard>(limits_, *peer_, *shares_, now_, &complete);
  Send(Start() + Call(1));
  const std::string trailers =
      Frame(kHeaders, kEndHeaders | kEndStream, 1, "trailers");
  std::string to_client = Answer(trailers.substr(0, 12));
  Send(Frame(kReset, 0, 1, Number(8, 4)));
  to_client += Answer(trailers.substr(12));
  EXPECT_EQ(to_client, trailers);
}

TEST_F(Http2GuardTest, RefusesWhatIsNotHttp2) {
  EXPECT_THAT(Send("GET / HTTP/1.1\r\n"), IsEmpty());
  EXPECT_THAT(guard_->fault(), Optional(Fault::kNotHttp2));
  Restart();
  Send("PRI * ");
  Send("HTTP/1.1");
  EXPECT_THAT(guard_->fault(), Optional(Fault::kNotHttp2));
  Restart();
  Send(kPreface + Frame(kPing, 0, 0, "12345678"));
  EXPECT_THAT(guard_->fault(), Optional(Fault::kFrame));
}

TEST_F(Http2GuardTest, WaitsForTheStartOnlySoLong) {
  Send(kPreface);
  now_ += absl::Seconds(9);
  Tick();
  EXPECT_EQ(guard_->fault(), std::nullopt);
  now_ += absl::Seconds(2);
  Tick();
  EXPECT_THAT(guard_->fault(), Optional(Fault::kSlowStart));
}

TEST_F(Http2GuardTest, HoldsAHeaderBlockUntilItIsWhole) {
  Send(Start());
  EXPECT_THAT(Send(Frame(kHeaders, 0, 1, "first")), IsEmpty());
  EXPECT_THAT(Send(Frame(kContinuation, 0, 1, "second")), IsEmpty());
  EXPECT_EQ(Send(Frame(kContinuation, kEndHeaders, 1, "third")),
            Frame(kHeaders, 0, 1, "first") +
                Frame(kContinuation, 0, 1, "second") +
                Frame(kContinuation, kEndHeaders, 1, "third"));
}

TEST_F(Http2GuardTest, BoundsTheHeaderBlockInBytesFramesAndTime) {
  const std::string most(16'384, 'h');
  Send(Start() + Frame(kHeaders, 0, 1, most) +
       Frame(kContinuation, 0, 1, most));
  EXPECT_THAT(guard_->fault(), Optional(Fault::kHeaderBlock));

  Restart();
  EXPECT_THAT(Send(Start() + Frame(kHeaders, 0, 1)),
              EndsWith(Frame(kSettings, 0, 0)));
  for (int i = 0; i < limits_.continuations; ++i) {
    Send(Frame(kContinuation, 0, 1, "h"));
  }
  EXPECT_EQ(guard_->fault(), std::nullopt);
  EXPECT_THAT(Send(Frame(kContinuation, 0, 1, "h")), IsEmpty());
  EXPECT_THAT(guard_->fault(), Optional(Fault::kHeaderBlock));

  Restart();
  Send(Start() + Frame(kHeaders, 0, 1, "h"));
  now_ += absl::Seconds(11);
  Tick();
  EXPECT_THAT(guard_->fault(), Optional(Fault::kSlowHeaders));
}

TEST_F(Http2GuardTest, RefusesFramesThatAreTooLongOrOutOfPlace) {
  for (const std::string& frame :
       {Frame(kData, 0, 1, std::string(16'385, 'x')),
        Frame(kContinuation, 0, 1, "h"), Frame(kHeaders, kEndHeaders, 0, "h"),
        Frame(kHeaders, 0, 1, "h") + Frame(kPing, 0, 0, "12345678"),
        Frame(kHeaders, 0, 1, "h") + Frame(kContinuation, 0, 3, "h"),
        Frame(static_cast<FrameType>(5), 0, 1, "push promise")}) {
    Restart();
    EXPECT_EQ(Send(Start() + frame), Start());
    EXPECT_THAT(guard_->fault(), Optional(Fault::kFrame));
  }
  // The server may allow longer ones.
  Restart();
  Answer(Frame(kSettings, 0, 0, Number(5, 2) + Number(32'768, 4)));
  Send(Start() + Call(1) + Frame(kData, 0, 1, std::string(20'000, 'x')));
  EXPECT_EQ(guard_->fault(), std::nullopt);
}

TEST_F(Http2GuardTest, LetsNewStreamsInAtARateOfThePeer) {
  Send(Start());
  auto second = NewGuard(*peer_);
  EXPECT_EQ(Send(Start(), *second), Start());
  std::string calls;
  for (uint32_t id = 1; id < 2000; id += 2) calls += Call(id, kEndStream);
  EXPECT_LT(Send(calls).size(), calls.size());
  EXPECT_TRUE(guard_->waits());
  const std::string rest = std::exchange(waiting_, "");
  EXPECT_THAT(Send(Call(1), *second), IsEmpty())
      << "the peer's other connection";
  // It only waits, however long that takes.
  waiting_ = rest;
  for (int i = 0; i < 60; ++i) {
    now_ += absl::Seconds(1);
    Send("");
  }
  EXPECT_THAT(waiting_, IsEmpty());
  EXPECT_FALSE(guard_->waits());
  EXPECT_EQ(guard_->fault(), std::nullopt);
  EXPECT_EQ(guard_->streams_seen(), 1000);
}

TEST_F(Http2GuardTest, CountsTheBytesOfTrailersAsThoseOfHeaders) {
  Send(Start() + Call(1));
  const std::string trailers =
      Frame(kHeaders, kEndHeaders, 1, std::string(16'000, 'h'));
  for (int i = 0; i < 50; ++i) Send(trailers);
  EXPECT_FALSE(guard_->waits());
  for (int i = 0; i < 50; ++i) Send(trailers);
  EXPECT_TRUE(guard_->waits());
}

TEST_F(Http2GuardTest, SlowsDownResetsAndThenCutsOff) {
  Send(Start());
  const auto rapid = [&](uint32_t id) {
    return Call(id, kEndStream) + Frame(kReset, 0, id, Number(8, 4));
  };
  uint32_t id = 1;
  for (; waiting_.empty() && id < 1000; id += 2) Send(rapid(id));
  EXPECT_EQ(id, 203u) << "a hundred went through";
  for (int i = 0; i < 29; ++i) {
    now_ += absl::Seconds(1);
    Send("");
    for (; waiting_.empty(); id += 2) Send(rapid(id));
    ASSERT_EQ(guard_->fault(), std::nullopt) << i;
  }
  now_ += absl::Seconds(1);
  Send("");
  for (; waiting_.empty() && !guard_->fault(); id += 2) Send(rapid(id));
  now_ += absl::Milliseconds(10);
  Send("");
  EXPECT_THAT(guard_->fault(), Optional(Fault::kRate));
}

TEST_F(Http2GuardTest, DoesNotCountTheResetOfAStreamThatIsOver) {
  Send(Start());
  for (uint32_t id = 1; id < 800; id += 2) {
    Send(Call(id, kEndStream));
    Answer(Frame(kHeaders, kEndHeaders | kEndStream, id, "trailers"));
    Send(Frame(kReset, 0, id, Number(8, 4)));
  }
  EXPECT_THAT(waiting_, IsEmpty());
}

TEST_F(Http2GuardTest, LimitsFramesThatCarryNothing) {
  for (const std::string& frame :
       {Frame(kPing, 0, 0, "12345678"), Frame(kSettings, 0, 0),
        Frame(kPriority, 0, 1, "12345"), Window(0, 1), Frame(kData, 0, 1),
        Frame(static_cast<FrameType>(99), 0, 0)}) {
    Restart();
    waiting_.clear();
    Send(Start() + Call(1));
    std::string flood;
    for (int i = 0; i < 3000; ++i) flood += frame;
    const std::string passed = Send(flood);
    EXPECT_NEAR(static_cast<double>(passed.size() / frame.size()), 2000, 2);
    // What the server sends makes room for answers to it.
    Answer(Call(1) + Frame(kData, 0, 1, "x"));
    EXPECT_GT(Send("").size(), 0u);
  }
}

TEST_F(Http2GuardTest, LetsLargeMessagesInAFewAtATime) {
  Send(Start());
  // Each of 30 MiB; two of them fit into a peer's share of 64 MiB.
  for (uint32_t id = 1; id <= 9; id += 2) {
    EXPECT_EQ(Send(Call(id) + Data(id, kWindow)), Call(id) + Data(id, kWindow));
  }
  std::string told;
  for (uint32_t id = 1; id <= 9; id += 2) told += Answer(Window(id, 30 * kMiB));
  EXPECT_EQ(told, Window(1, 30 * kMiB) + Window(3, 30 * kMiB));
  EXPECT_TRUE(guard_->holds_back());
  // The others' small calls go on meanwhile.
  EXPECT_EQ(Send(Call(11) + Data(11, 1000, true)),
            Call(11) + Data(11, 1000, true));
  // The first has come in and is answered: the next may begin.
  Send(Data(1, 30 * kMiB, true));
  EXPECT_THAT(Tick(), IsEmpty());
  EXPECT_EQ(Answer(Call(1)), Call(1) + Window(5, 30 * kMiB));
  // As when one is given up.
  Send(Frame(kReset, 0, 3, Number(8, 4)));
  EXPECT_EQ(Tick(), Window(7, 30 * kMiB));
  EXPECT_EQ(guard_->fault(), std::nullopt);
}

TEST_F(Http2GuardTest, HoldsNobodyBackForAnotherPeersMessages) {
  Send(Start() + Call(1) + Call(3) + Call(5));
  Answer(Window(1, 30 * kMiB) + Window(3, 30 * kMiB) + Window(5, 30 * kMiB));
  EXPECT_TRUE(guard_->holds_back());
  const auto other = NewPeer();
  auto second = NewGuard(*other);
  Send(Start() + Call(1), *second);
  EXPECT_EQ(Answer(Window(1, 30 * kMiB), *second), Window(1, 30 * kMiB));
  EXPECT_FALSE(second->holds_back());
  // Not more than all may hold together, though.
  const auto third = NewPeer();
  auto waits = NewGuard(*third);
  Send(Start() + Call(1) + Call(3), *waits);
  EXPECT_EQ(Answer(Window(1, 30 * kMiB) + Window(3, 30 * kMiB), *waits),
            Window(1, 30 * kMiB));
  EXPECT_TRUE(waits->holds_back());
  second.reset();  // with what it held
  std::string out;
  waits->Tick(now_, false, &out);
  EXPECT_EQ(out, Window(3, 30 * kMiB));
}

TEST_F(Http2GuardTest, LetsAMessageGoOnThatWasLetBegin) {
  Send(Start() + Call(1) + Call(3));
  EXPECT_EQ(Answer(Window(1, 40 * kMiB)), Window(1, 40 * kMiB));
  EXPECT_EQ(Answer(Window(3, 24 * kMiB)), Window(3, 24 * kMiB));
  EXPECT_EQ(Answer(Window(1, kMiB)), Window(1, kMiB));
}

TEST_F(Http2GuardTest, CutsOffASlowUploadOnlyWhileOthersWait) {
  Send(Start() + Call(1));
  Answer(Window(1, 30 * kMiB));
  now_ += absl::Minutes(5);
  Tick(false);
  EXPECT_EQ(guard_->fault(), std::nullopt);
  Tick(true);
  EXPECT_THAT(guard_->fault(), Optional(Fault::kSlowUpload));
}

TEST_F(Http2GuardTest, RefusesMoreThanAStreamsWindow) {
  Send(Start() + Call(1) + Data(1, kWindow));
  EXPECT_EQ(guard_->fault(), std::nullopt);
  EXPECT_THAT(Send(Data(1, 1)), IsEmpty());
  EXPECT_THAT(guard_->fault(), Optional(Fault::kFlowControl));
}

TEST_F(Http2GuardTest, BoundsTheFirstWindowsOfAPeer) {
  std::string calls = Start();
  for (uint32_t id = 1; id < 1200; id += 2)
    calls += Call(id) + Data(id, kWindow);
  const int64_t limit = Shares::Limits{}.first_windows.peer_bytes;
  Send(calls);
  EXPECT_NEAR(static_cast<double>(guard_->request_bytes()),
              static_cast<double>(limit), 70'000);
  // Answers make room.
  for (uint32_t id = 1; id < 200; id += 2) {
    Answer(Frame(kHeaders, kEndHeaders | kEndStream, id) +
           Frame(kReset, 0, id, Number(0, 4)));
  }
  Send("");
  EXPECT_THAT(waiting_, IsEmpty());
  // Without any, it is cut off in the end.
  Restart();
  waiting_.clear();
  Send(calls);
  now_ += absl::Seconds(31);
  Send("");
  EXPECT_THAT(guard_->fault(), Optional(Fault::kShare));
}

TEST_F(Http2GuardTest, GivesBackAllThatItHeldWhenItEnds) {
  Send(Start() + Call(1) + Data(1, kWindow) + Call(3));
  Answer(Window(1, 30 * kMiB));
  EXPECT_EQ(peer_->bytes[0], kWindow);
  EXPECT_EQ(peer_->bytes[1], 30 * kMiB);
  guard_.reset();
  EXPECT_EQ(peer_->bytes[0], 0);
  EXPECT_EQ(peer_->bytes[1], 0);
  EXPECT_TRUE(shares_->TakeFreed());
}

TEST_F(Http2GuardTest, SaysFarewellBetweenTwoFramesOnly) {
  Send(Start() + Call(7));
  const std::string farewell =
      guard_->Farewell("why", Http2Guard::GoAway::kCalm);
  EXPECT_EQ(farewell,
            Frame(kGoAway, 0, 0, Number(7, 4) + Number(11, 4) + "why"));
  Answer(Frame(kData, 0, 7, "abc").substr(0, 10));
  EXPECT_THAT(guard_->Farewell("why", Http2Guard::GoAway::kCalm), IsEmpty());
}

TEST_F(Http2GuardTest, AsksForNoMoreCallsAndPassesOnThoseThatCome) {
  const std::string goaway =
      Frame(kGoAway, 0, 0, Number(0x7fffffff, 4) + Number(0, 4));
  Send(Start() + Call(1));
  // Not before the server's SETTINGS, which are the first frame.
  std::string out;
  guard_->Retire(&out);
  EXPECT_THAT(out, IsEmpty());
  const std::string settings = Frame(kSettings, 0, 0);
  EXPECT_EQ(Answer(settings), settings + goaway);
  EXPECT_EQ(Answer(Frame(kData, 0, 1, "abc")), Frame(kData, 0, 1, "abc"));
  EXPECT_EQ(Send(Call(3)), Call(3)) << "it had not heard of it";
  EXPECT_FALSE(guard_->fault().has_value());
}

TEST_F(Http2GuardTest, AsksForNoMoreCallsBetweenTwoFramesOnly) {
  const std::string goaway =
      Frame(kGoAway, 0, 0, Number(0x7fffffff, 4) + Number(0, 4));
  Send(Start() + Call(1));
  Answer(Frame(kSettings, 0, 0));
  // A frame that is half there, and a header block in two frames.
  const std::string data = Frame(kData, 0, 1, "abc");
  Answer(data.substr(0, 10));
  std::string out;
  guard_->Retire(&out);
  EXPECT_THAT(out, IsEmpty());
  EXPECT_EQ(Answer(data.substr(10)), data.substr(10) + goaway);
  Restart();
  Send(Start() + Call(1));
  Answer(Frame(kSettings, 0, 0) + Frame(kHeaders, 0, 1, "first"));
  guard_->Retire(&out);
  EXPECT_THAT(out, IsEmpty());
  const std::string rest = Frame(kContinuation, kEndHeaders, 1, "rest");
  EXPECT_EQ(Answer(rest), rest + goaway);
}

TEST_F(Http2GuardTest, LetsNothingThroughAfterAFault) {
  Send(Start() + Frame(kContinuation, 0, 1, "h"));
  ASSERT_TRUE(guard_->fault().has_value());
  EXPECT_THAT(Send(Call(1)), IsEmpty());
  EXPECT_THAT(waiting_, IsEmpty()) << "it is taken all the same";
}

}  // namespace
}  // namespace ounce::server
