// TLS of a real server, with the real clients and real certificates.
#include <fstream>

#include "gmock/gmock.h"
#include "tests/e2e/raw_connection.h"
#include "tests/e2e/serving.h"
#include "tests/testing/certificates.h"
#include "tests/testing/status_matchers.h"

namespace ounce {
namespace {

using ::testing::AllOf;
using testing::Certificate;
using testing::Certificates;
using testing::Finished;
using ::testing::HasSubstr;
using testing::IsOk;
using ::testing::Not;
using testing::StatusIs;

class TlsTest : public testing::ServingTest {
 protected:
  TlsTest()
      : make_(folder_.path()),
        authority_(make_.MakeAuthority("authority")),
        own_(make_.Make("server", authority_)) {}

  // With the server's certificate, and `flags`.
  void StartTls(const std::vector<std::string>& flags = {}) {
    std::vector<std::string> all = {
        "--model",    absl::StrCat("tiny=", testing::kTinyModel),
        "--tls_cert", own_.cert,
        "--tls_key",  own_.key};
    all.insert(all.end(), flags.begin(), flags.end());
    Start(all);
    client_ = NewClient(authority_.cert);
  }

  std::unique_ptr<client::Client> NewClient(const std::string& ca,
                                            const Certificate& shown = {}) {
    return client::Client::Create({.server = inference_,
                                   .admin = admin_,
                                   .timeout = absl::Seconds(20),
                                   .tls = true,
                                   .ca_file = ca,
                                   .cert_file = shown.cert,
                                   .key_file = shown.key});
  }

  // What curl gets from the metrics port.
  Finished Curl(std::vector<std::string> args, const std::string& scheme) {
    args.insert(args.begin(), {"curl", "-sS", "--noproxy", "*"});
    args.push_back(absl::StrCat(scheme, "://", metrics_, "/metrics"));
    return testing::RunToEnd(args);
  }

  const Certificates make_;
  const Certificate authority_;
  const Certificate own_;
};

// Of the listeners that Metric() does not ask.
const std::vector<std::string> kMetricsInPlainText = {"--tls_listeners",
                                                      "listen,admin_listen"};

TEST_F(TlsTest, IsSpokenByAllThreeListeners) {
  StartTls();
  const auto generated = Generate(Request("def", 200));
  ASSERT_THAT(generated.status(), IsOk());
  EXPECT_THAT(client_->ListModels().status(), IsOk());
  const Finished models = Cli({"--ca", authority_.cert, "models"});
  EXPECT_EQ(models.code, 0) << models.err;
  const Finished scrape = Curl({"--cacert", authority_.cert}, "https");
  EXPECT_EQ(scrape.code, 0) << scrape.err;
  EXPECT_THAT(scrape.out,
              AllOf(HasSubstr("ounce_tls_certificate_expiry_timestamp_seconds"),
                    HasSubstr("ounce_connections{listener=\"metrics_listen\"} "
                              "1")));
}

TEST_F(TlsTest, SaysSoToClientsThatSpeakWithout) {
  StartTls();
  const Finished plain = Cli({"health"});
  EXPECT_EQ(plain.code, 4);
  EXPECT_THAT(plain.err, HasSubstr("connect with --tls"));
  const Finished http = Curl({"-i"}, "http");
  EXPECT_THAT(http.out, AllOf(HasSubstr("400 Bad Request"),
                              HasSubstr("this port speaks TLS")));
  const Finished scrape = Curl({"--cacert", authority_.cert}, "https");
  for (const char* listener : {"listen", "metrics_listen"}) {
    EXPECT_THAT(scrape.out,
                Not(HasSubstr(absl::StrCat("_cut_total{listener=\"", listener,
                                           "\",reason=\"not_tls\"} 0"))));
  }
}

TEST_F(TlsTest, IsMissedByClientsWhereItIsNotSpoken) {
  Start();
  const Finished cli = Cli({"--ca", authority_.cert, "health"});
  EXPECT_EQ(cli.code, 4);
  EXPECT_THAT(cli.err, HasSubstr("speaks no TLS"));
  EXPECT_THAT(server_->err(), HasSubstr("the client speaks TLS, and this port "
                                        "does not"));
  EXPECT_NE(Curl({"--cacert", authority_.cert}, "https").code, 0);
  EXPECT_EQ(Curl({}, "http").code, 0);
}

TEST_F(TlsTest, IsRefusedByClientsThatDoNotTrustIt) {
  StartTls(kMetricsInPlainText);
  const Certificate other = make_.MakeAuthority("other");
  EXPECT_THAT(NewClient(other.cert)->ListServedModels().status(),
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr("is not to be trusted"),
                             HasSubstr(other.cert))));
  EXPECT_TRUE(WaitUntil([&] {
    return Metric("ounce_connections_cut_total", {"\"listen\"", "\"tls\""}) > 0;
  }));
  EXPECT_THAT(server_->err(),
              HasSubstr("listen: closed a connection of 127.0.0.1: TLS: the "
                        "client "));
  EXPECT_THAT(
      NewClient(folder_.Path("nothing"))->ListServedModels().status(),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("--ca: cannot read '" + folder_.Path("nothing"))));
  EXPECT_THAT(NewClient(folder_.Path("."))->ListServedModels().status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("Is a directory")));
  Stop();
  Certificates::Replace(
      own_, make_.Make("elsewhere", authority_, "DNS:elsewhere.example"));
  StartTls(kMetricsInPlainText);
  EXPECT_THAT(client_->ListServedModels().status(),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("is for other names than '127.0.0.1': "
                                 "elsewhere.example; call")));
  Stop();
  Certificates::Replace(own_,
                        make_.Make("ended", authority_, "IP:127.0.0.1", -1));
  StartTls(kMetricsInPlainText);
  EXPECT_THAT(
      client_->ListServedModels().status(),
      StatusIs(absl::StatusCode::kUnavailable, HasSubstr("it has ended, or")));
  EXPECT_THAT(server_->err(), HasSubstr("clients will refuse it"));
}

TEST_F(TlsTest, TakesAReplacedCertificateWhileItRuns) {
  StartTls(kMetricsInPlainText);
  ASSERT_THAT(client_->ListServedModels().status(), IsOk());
  const double expiry =
      Metric("ounce_tls_certificate_expiry_timestamp_seconds");
  const Certificate other = make_.MakeAuthority("other");
  Certificates::Replace(own_, make_.Make("renewed", other, "IP:127.0.0.1", 60));
  ASSERT_TRUE(WaitUntil([&] {
    return Metric("ounce_file_reloads_total", {"\"tls\"", "\"done\""}) == 1;
  })) << server_->err();
  EXPECT_GT(Metric("ounce_tls_certificate_expiry_timestamp_seconds"), expiry);
  // Whoever was connected still is; who comes now sees the new one.
  EXPECT_THAT(client_->ListServedModels().status(), IsOk());
  EXPECT_THAT(NewClient(other.cert)->ListServedModels().status(), IsOk());
  EXPECT_FALSE(NewClient(authority_.cert)->ListServedModels().ok());

  std::ofstream(own_.cert) << "broken\n";
  ASSERT_TRUE(WaitUntil([&] {
    return Metric("ounce_file_reloads_total", {"\"tls\"", "\"error\""}) == 1;
  })) << server_->err();
  EXPECT_THAT(server_->err(), HasSubstr("holds no certificate in PEM format"));
  EXPECT_THAT(NewClient(other.cert)->ListServedModels().status(), IsOk());
}

TEST_F(TlsTest, AnEndedCertificateKeepsOnlyNewClientsOutUntilItIsRenewed) {
  StartTls(kMetricsInPlainText);
  ASSERT_THAT(client_->ListServedModels().status(), IsOk());
  const auto reloads = [&](double count) {
    return WaitUntil([&] {
      return Metric("ounce_file_reloads_total", {"\"tls\"", "\"done\""}) ==
             count;
    });
  };
  Certificates::Replace(own_,
                        make_.Make("ended", authority_, "IP:127.0.0.1", -1));
  ASSERT_TRUE(reloads(1)) << server_->err();
  EXPECT_LT(Metric("ounce_tls_certificate_expiry_timestamp_seconds"),
            static_cast<double>(absl::ToUnixSeconds(absl::Now())));
  EXPECT_THAT(server_->err(), HasSubstr("clients will refuse it"));
  EXPECT_THAT(client_->ListServedModels().status(), IsOk());
  EXPECT_THAT(
      NewClient(authority_.cert)->ListServedModels().status(),
      StatusIs(absl::StatusCode::kUnavailable, HasSubstr("it has ended, or")));
  Certificates::Replace(own_, make_.Make("renewed", authority_));
  ASSERT_TRUE(reloads(2)) << server_->err();
  EXPECT_GT(Metric("ounce_tls_certificate_expiry_timestamp_seconds"),
            static_cast<double>(absl::ToUnixSeconds(absl::Now())));
  EXPECT_THAT(NewClient(authority_.cert)->ListServedModels().status(), IsOk());
}

TEST_F(TlsTest, AsksClientsForACertificateAndKnowsThemByIt) {
  StartTls({"--tls_listeners", "admin_listen,metrics_listen",
            "--admin_tls_client_ca", authority_.cert, "--metrics_tls_client_ca",
            authority_.cert});
  const Certificate operator_ = make_.Make("operator", authority_, "");
  const auto known = NewClient(authority_.cert, operator_);
  ASSERT_THAT(known->ListModels().status(), IsOk());
  v1::GetModelRequest request;
  request.set_name("nothing");
  EXPECT_FALSE(known->GetModel(request).ok());
  EXPECT_THAT(server_->err(), HasSubstr("GetModel from cert:operator"));
  EXPECT_THAT(client_->ListModels().status(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("--cert")));
  const Certificate stranger =
      make_.Make("stranger", make_.MakeAuthority("other"), "");
  EXPECT_FALSE(NewClient(authority_.cert, stranger)->ListModels().ok());
  EXPECT_THAT(server_->err(), HasSubstr("admin_listen: closed a connection of "
                                        "127.0.0.1: TLS: "));
  EXPECT_NE(Curl({"--cacert", authority_.cert}, "https").code, 0);
  EXPECT_EQ(Curl({"--cacert", authority_.cert, "--cert", operator_.cert,
                  "--key", operator_.key},
                 "https")
                .code,
            0);
}

TEST_F(TlsTest, IsNotHeldUpByThoseWhoShakeHandsSlowly) {
  StartTls();
  std::vector<testing::RawConnection> slow;
  for (int i = 0; i < 100; ++i) {
    slow.emplace_back(inference_, "127.0.0.3");
    // The beginning of a record.
    slow.back().Write(std::string("\x16\x03\x01\x02\x00\x01", 6));
  }
  EXPECT_THAT(NewClient(authority_.cert)->ListServedModels().status(), IsOk());
  EXPECT_THAT(Generate(Request("def", 2)).status(), IsOk());
}

TEST_F(TlsTest, ADrainEndsWellWithTls) {
  StartTls(kMetricsInPlainText);
  ASSERT_THAT(Generate(Request("def", 2)).status(), IsOk());
  Stop();
}

}  // namespace
}  // namespace ounce
