#include "server/config.h"

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/cpu.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::server {
namespace {

using ::ounce::testing::StatusIs;
using ::ounce::testing::TempFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

absl::StatusOr<Config> Read(std::vector<std::string> flags) {
  std::vector<const char*> argv = {"ounce-server"};
  for (const std::string& flag : flags) argv.push_back(flag.c_str());
  return ReadConfig(static_cast<int>(argv.size()), argv.data());
}

TEST(ConfigTest, HasTheDefaultsThatTheContractStates) {
  ASSERT_OK_AND_ASSIGN(const Config config, Read({}));
  EXPECT_THAT(config.models, IsEmpty());
  EXPECT_EQ(config.listen.inference, "127.0.0.1:8500");
  EXPECT_EQ(config.listen.admin, "127.0.0.1:8501");
  EXPECT_EQ(config.listen.metrics, "127.0.0.1:8502");
  EXPECT_EQ(config.threads, NumCpus());
  EXPECT_EQ(config.kv_cache_bytes, 1 << 30);
  EXPECT_EQ(config.limits.max_queued_requests, 256);
  EXPECT_EQ(config.limits.max_running_requests, 32);
  EXPECT_EQ(config.limits.max_new_tokens, 4096);
  EXPECT_EQ(config.limits.max_step_tokens, 512);
  EXPECT_EQ(config.limits.max_message_bytes, 32 << 20);
  EXPECT_EQ(config.limits.max_picture_pixels, 64'000'000);
  EXPECT_EQ(config.limits.picture_memory_bytes, 512 << 20);
  EXPECT_EQ(config.limits.max_batch_pictures, 8);
  EXPECT_EQ(config.compute, std::nullopt);
  EXPECT_EQ(config.kv_type, std::nullopt);
  EXPECT_EQ(config.drain_delay, absl::ZeroDuration());
  EXPECT_EQ(config.drain, absl::Seconds(8));
  EXPECT_FALSE(config.keep_going);
  EXPECT_FALSE(config.pull);
  EXPECT_FALSE(config.log_json);
}

TEST(ConfigTest, SaysWhatIsWrongWithTheWordsOfACommandLine) {
  const auto error = [](const std::vector<std::string>& flags) {
    return std::string(Read(flags).status().message());
  };
  EXPECT_THAT(error({"--keep_going=maybe"}),
              HasSubstr("--keep_going: must be true or false, is 'maybe'"));
  EXPECT_THAT(error({"--threads"}), HasSubstr("--threads: needs a value"));
  EXPECT_THAT(error({"--treads", "2"}),
              HasSubstr("'--treads' is neither a flag nor a flag's value"));
  EXPECT_THAT(error({"--config", ""}), HasSubstr("--config: must be a file"));
}

TEST(ConfigTest, SaysOfTwoFilesThatAContainerMayNameOneAlready) {
  EXPECT_THAT(Read({"--config", "/etc/a", "--config", "/etc/b"}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("--config: is given 2 times ('/etc/a', "
                                       "'/etc/b'); give it once"),
                             HasSubstr("entrypoint"))));
  EXPECT_THAT(Read({"--config"}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("--config: needs a value")));
}

TEST(ConfigTest, AFlagMaySayThatItIsNotMeant) {
  ASSERT_OK_AND_ASSIGN(const Config off, Read({"--keep-going=false"}));
  EXPECT_FALSE(off.keep_going);
  ASSERT_OK_AND_ASSIGN(const Config on, Read({"--keep-going=true"}));
  EXPECT_TRUE(on.keep_going);
}

TEST(ConfigTest, ReadsEveryFlag) {
  ASSERT_OK_AND_ASSIGN(
      const Config config,
      Read({"--model",
            "a=/models/a",
            "--model",
            "b=org/name@main,method=linear:bits=8,mode=symmetric",
            "--model",
            "c=/models/c,method=linear:bits=8,mode=symmetric,convolutions=true",
            "--model",
            "d=/models/d,convolutions=false",
            "--model",
            "e=/models/e,plan=lm_head=keep *.a=linear:bits=8,mode=symmetric "
            "float16",
            "--listen",
            "0.0.0.0:1",
            "--admin_listen",
            "127.0.0.1:2",
            "--metrics_listen",
            "127.0.0.1:0",
            "--threads",
            "3",
            "--kv_cache_bytes",
            "512MiB",
            "--max_queued_requests",
            "4",
            "--max_running_requests",
            "5",
            "--max_new_tokens",
            "6",
            "--max_step_tokens",
            "7",
            "--prompt_step_seconds",
            "0.25",
            "--max_message_bytes",
            "8KiB",
            "--max_picture_pixels",
            "9",
            "--picture_memory_bytes",
            "20MiB",
            "--max_batch_pictures",
            "10",
            "--compute",
            "bfloat16",
            "--kv_cache_dtype",
            "int8",
            "--drain_seconds",
            "0.5",
            "--drain_delay_seconds",
            "1.5",
            "--ports_file",
            "/tmp/ports",
            "--otlp_endpoint",
            "http://collector:4318",
            "--trace_sample",
            "0.25",
            "--keep_going",
            "--log_format",
            "json"}));
  ASSERT_THAT(config.models, SizeIs(5));
  EXPECT_EQ(config.models[0].name, "a");
  EXPECT_EQ(config.models[0].path, "/models/a");
  EXPECT_TRUE(config.models[0].plan.keeps_all());
  EXPECT_EQ(config.models[1].name, "b");
  EXPECT_EQ(config.models[1].path, "org/name@main");
  EXPECT_EQ(config.models[1].plan.ToString(), "linear");
  EXPECT_EQ(config.models[2].path, "/models/c");
  EXPECT_EQ(config.models[2].plan.ToString(), "@convolution=linear linear");
  EXPECT_EQ(config.models[3].path, "/models/d");
  EXPECT_TRUE(config.models[3].plan.keeps_all());
  EXPECT_EQ(config.models[4].path, "/models/e");
  EXPECT_EQ(config.models[4].plan.ToString(),
            "lm_head=keep *.a=linear float16");
  EXPECT_EQ(config.listen.inference, "0.0.0.0:1");
  EXPECT_EQ(config.listen.admin, "127.0.0.1:2");
  EXPECT_EQ(config.listen.metrics, "127.0.0.1:0");
  EXPECT_EQ(config.threads, 3);
  EXPECT_EQ(config.kv_cache_bytes, 512 << 20);
  EXPECT_EQ(config.limits.max_queued_requests, 4);
  EXPECT_EQ(config.limits.max_running_requests, 5);
  EXPECT_EQ(config.limits.max_new_tokens, 6);
  EXPECT_EQ(config.limits.max_step_tokens, 7);
  EXPECT_EQ(config.limits.prompt_step, absl::Milliseconds(250));
  EXPECT_EQ(config.limits.max_message_bytes, 8192);
  EXPECT_EQ(config.limits.max_picture_pixels, 9);
  EXPECT_EQ(config.limits.picture_memory_bytes, 20 << 20);
  EXPECT_EQ(config.limits.max_batch_pictures, 10);
  EXPECT_EQ(config.compute, quant::Compute::kBFloat16);
  EXPECT_EQ(config.kv_type, model::KvType::kInt8);
  EXPECT_EQ(config.drain, absl::Milliseconds(500));
  EXPECT_EQ(config.drain_delay, absl::Milliseconds(1500));
  EXPECT_EQ(config.ports_file, "/tmp/ports");
  EXPECT_EQ(config.tracing.endpoint, "http://collector:4318");
  EXPECT_EQ(config.tracing.sample, 0.25);
  EXPECT_TRUE(config.keep_going);
  EXPECT_TRUE(config.log_json);
}

TEST(ConfigTest, FlagsOverrideTheFileFieldByField) {
  const TempFolder folder;
  const std::string file = folder.WriteFile("server.textproto", R"(
models { name: "a" path: "/old/a" }
models {
  name: "b"
  path: "/old/b"
  method: "linear:bits=8,mode=symmetric"
  convolutions: true
}
listen: "127.0.0.1:11"
admin_listen: "127.0.0.1:12"
threads: 2
kv_cache_bytes: 2097152
limits {
  max_connection_age_seconds: 600
  max_new_tokens: 99
  max_picture_pixels: 1000
  picture_memory_bytes: 33554432
  max_batch_pictures: 3
}
compute: "float32"
kv_cache_dtype: "bfloat16"
drain_seconds: 0
)");
  ASSERT_OK_AND_ASSIGN(const Config config,
                       Read({"--config", file, "--model", "a=/new/a",
                             "--listen", "127.0.0.1:21"}));
  ASSERT_THAT(config.models, SizeIs(2));
  EXPECT_EQ(config.models[0].path, "/old/b");
  EXPECT_EQ(config.models[0].plan.ToString(), "@convolution=linear linear");
  EXPECT_EQ(config.models[1].path, "/new/a");
  EXPECT_EQ(config.listen.inference, "127.0.0.1:21");
  EXPECT_EQ(config.listen.admin, "127.0.0.1:12");
  EXPECT_EQ(config.listen.metrics, "127.0.0.1:8502");
  EXPECT_EQ(config.threads, 2);
  EXPECT_EQ(config.kv_cache_bytes, 2 << 20);
  EXPECT_EQ(config.limits.max_new_tokens, 99);
  EXPECT_EQ(config.limits.connection_age, absl::Minutes(10));
  EXPECT_EQ(config.limits.max_picture_pixels, 1000);
  EXPECT_EQ(config.limits.picture_memory_bytes, 32 << 20);
  EXPECT_EQ(config.limits.max_batch_pictures, 3);
  EXPECT_EQ(config.compute, quant::Compute::kFloat32);
  EXPECT_EQ(config.kv_type, model::KvType::kBFloat16);
  EXPECT_EQ(config.drain, absl::ZeroDuration());
}

TEST(ConfigTest, AFilesModelHasAPlanOrItsShortForm) {
  const TempFolder folder;
  const auto read = [&](const std::string& fields) {
    return Read({"--config",
                 folder.WriteFile(
                     "file", "models { name: 'a' path: 'p' " + fields + " }")});
  };
  ASSERT_OK_AND_ASSIGN(const Config config,
                       read("plan: 'lm_head=keep linear'"));
  EXPECT_EQ(config.models[0].plan.ToString(), "lm_head=keep linear");
  EXPECT_THAT(read("plan: 'linear' method: 'linear'"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("leave these out, or the plan")));
  EXPECT_THAT(read("plan: 'x=y'"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("model 'a': plan: rule 'x=y'")));
}

TEST(ConfigTest, NamesTheLineOfAFilesMistake) {
  const TempFolder folder;
  EXPECT_THAT(
      Read({"--config", folder.WriteFile("a", "threads: 2\ntreads: 3\n")}),
      StatusIs(absl::StatusCode::kInvalidArgument,
               AllOf(HasSubstr(":2:"), HasSubstr("treads"))));
  EXPECT_THAT(
      Read({"--config", folder.WriteFile("b", "\n\nthreads: \"two\"\n")}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(":3:")));
  EXPECT_THAT(Read({"--config", folder.Path("none")}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none")));
}

TEST(ConfigTest, SaysWhatToWriteInPlaceOfAFilesMistake) {
  const TempFolder folder;
  const auto says = [&](const std::string& text, const std::string& words) {
    EXPECT_THAT(Read({"--config", folder.WriteFile("file", text)}),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(words)))
        << text;
  };
  says("listn: '127.0.0.1:1'", "--help lists the settings");
  says("threads: 1\nmax_new_tokens: 7", "write limits { max_new_tokens: ... }");
  says("limits { threads: 7 }", "write threads outside limits { }");
  const std::string bytes =
      "sizes are plain bytes here: write 536870912 for 512MiB";
  says("threads: 1\nkv_cache_bytes: 512MiB", bytes);
  says("kv_cache_bytes: 512MiB  # half", bytes);
  says("kv_cache_bytes: '512MiB'", bytes);
  says("limits { picture_memory_bytes: 512MiB }", bytes);
  const std::string quotes =
      "texts need quotes, like listen: \"127.0.0.1:8500\"";
  says("listen: 127.0.0.1:8500", quotes);
  says("compute: float32", quotes);
  says("token_file: /etc/tokens", quotes);
}

TEST(ConfigTest, SkipsTheByteOrderMarkOfAFile) {
  const TempFolder folder;
  ASSERT_OK_AND_ASSIGN(
      const Config config,
      Read({"--config", folder.WriteFile("file", "\xEF\xBB\xBFthreads: 3")}));
  EXPECT_EQ(config.threads, 3);
}

TEST(ConfigTest, SaysWhyAFolderOfModelsCannotBeUsed) {
  const TempFolder folder;
  const std::string file = folder.WriteFile("file", "");
  const auto says = [](const std::string& roots, const std::string& words) {
    EXPECT_THAT(Read({"--model_roots", roots}),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(words)));
  };
  const std::string none = folder.Path("none");
  says(absl::StrCat(folder.path().string(), ",", file),
       absl::StrCat("'", file, "' is no folder"));
  says(absl::StrCat(file, "/a"),
       absl::StrCat("'", file, "/a': Not a directory"));
  says(none, absl::StrCat("'", none, "': No such file or directory"));
}

TEST(ConfigTest, TakesAFolderToSaveInThatCanBeWritten) {
  const TempFolder folder;
  EXPECT_EQ(Read({})->save_root, "");
  ASSERT_OK_AND_ASSIGN(const Config config,
                       Read({"--save_root", folder.path().string()}));
  EXPECT_EQ(config.save_root, folder.path().string());
  const std::string file = folder.WriteFile("file", "");
  for (const std::string& none : {file, folder.Path("none"), std::string()}) {
    EXPECT_THAT(Read({"--save_root", none}),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("must be a folder")))
        << none;
  }
}

TEST(ConfigTest, RefusesWhatIsNoFileOfSettings) {
  const TempFolder folder;
  const auto refuses = [&](const std::string& path, const std::string& words) {
    EXPECT_THAT(Read({"--config", path}),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(words)))
        << path;
  };
  refuses(folder.path(), "is a folder");
  refuses("/dev/null", "sets nothing");
  refuses("/dev/zero", "more than 1 MiB");
  refuses(folder.WriteFile("empty", ""), "sets nothing");
  refuses(folder.WriteFile("comment", "# soon\n"), "sets nothing");
  refuses(folder.WriteFile("json", "{\"threads\": 2}"), "is JSON; write");
  refuses(folder.WriteFile("yaml", "models:\n  - name: a\n    path: b\n"),
          "is YAML; write");
  refuses(folder.WriteFile("yaml", "---\nthreads: 2\n"), "is YAML; write");
  EXPECT_THAT(Read({"--config", folder.Path("none")}),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("No such file or directory")));
}

TEST(ConfigTest, SaysWhereAFilesValueIsOutOfRange) {
  const TempFolder folder;
  const auto read = [&](const std::string& text) {
    return Read({"--config", folder.WriteFile("file", text)});
  };
  EXPECT_THAT(
      read("limits { max_batch_pictures: 2000 }"),
      StatusIs(absl::StatusCode::kInvalidArgument,
               folder.Path("file") +
                   ": limits.max_batch_pictures: must be from 1 to 1024, is "
                   "2000"));
  EXPECT_THAT(read("kv_cache_bytes: 18446744073709551615"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("is 18446744073709551615")));
  EXPECT_THAT(read("compute: 'float16'"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("compute: must be auto")));
}

TEST(ConfigTest, TakesDashesForUnderscoresInFlags) {
  ASSERT_OK_AND_ASSIGN(const Config config,
                       Read({"--max-new-tokens", "7", "--kv-cache_bytes=2MiB",
                             "--ports-file", "a-b", "--model", "x=--y-z"}));
  EXPECT_EQ(config.limits.max_new_tokens, 7);
  EXPECT_EQ(config.kv_cache_bytes, 2 << 20);
  EXPECT_EQ(config.ports_file, "a-b");
}

TEST(ConfigTest, AFileIsCheckedAsAWholeWhateverFlagsOverride) {
  testing::TempFolder folder;
  const std::string file =
      folder.WriteFile("server.textproto", "listen: \"nowhere\"");
  const std::string wrong =
      file +
      ": listen: must be HOST:PORT (port 0 takes a free one), is "
      "'nowhere'";
  EXPECT_THAT(Read({"--config", file}),
              StatusIs(absl::StatusCode::kInvalidArgument, wrong));
  EXPECT_THAT(
      Read({"--config", file, "--listen", "127.0.0.1:0"}),
      StatusIs(absl::StatusCode::kInvalidArgument,
               wrong + "; a flag overrides it, but the file is checked as a "
                       "whole: mend it there, or take it out"));
  const std::string models = folder.WriteFile(
      "models.textproto", "models { name: \"a\" path: \"b\" plan: \"x=y\" }");
  EXPECT_THAT(Read({"--config", models, "--model", "a=c"}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr(models + ": model 'a': plan: rule 'x=y'")));
}

TEST(ConfigTest, ZeroOnTheCommandLineGoesBackToTheDefaultOfAFile) {
  const TempFolder folder;
  const std::string file =
      folder.WriteFile("file", "threads: 2 drain_seconds: 5");
  ASSERT_OK_AND_ASSIGN(
      const Config config,
      Read({"--config", file, "--threads", "0", "--drain_seconds", "0"}));
  EXPECT_EQ(config.threads, NumCpus());
  EXPECT_EQ(config.drain, absl::ZeroDuration());
}

TEST(ConfigTest, RefusesWhatIsOutOfRangeOrMalformed) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"--model", "tiny"}, "NAME=PATH"},
      {{"--model", "tiny="}, "model 'tiny' has no path"},
      {{"--model", "=path"}, "1 to 64 letters"},
      {{"--model", "a/b=path"}, "is 'a/b'"},
      {{"--model", "a=path,method="}, "a spec must follow 'method='"},
      {{"--model", "a=x", "--model", "a=y"}, "two models are named 'a'"},
      {{"--listen", "8500"}, "--listen: must be HOST:PORT"},
      {{"--listen", "host:99999"}, "HOST:PORT"},
      {{"--admin_listen", ":1"}, "admin_listen"},
      {{"--metrics_listen", "x:"}, "metrics_listen"},
      {{"--admin_listen", "0.0.0.0:1"},
       "set --token_file, or --admin_tls_client_ca, or"},
      {{"--tls_cert", "c"}, "--tls_cert: needs --tls_key too"},
      {{"--tls_key", "k"}, "--tls_key: needs --tls_cert too"},
      {{"--tls_client_ca", "a"},
       "--tls_client_ca: needs --tls_cert and --tls_key too"},
      {{"--tls_cert", "c", "--tls_key", "k", "--tls_listeners", "listen",
        "--admin_tls_client_ca", "a"},
       "--admin_tls_client_ca: admin_listen speaks no TLS; name it in"},
      {{"--metrics_hosts", "a, b"}, "metrics_hosts: must be * or names of"},
      {{"--metrics_hosts", "a,,b"}, "'' is none"},
      {{"--metrics_hosts", "a:9090"}, "'a:9090' is none"},
      {{"--tls_listeners", "listen,all"}, "some of listen, admin_listen and"},
      {{"--threads", "-1"}, "--threads: must be from 0 to 1024, is -1"},
      {{"--threads", "2000"}, "is 2000"},
      {{"--threads", "many"}, "--threads: must be a whole number, is 'many'"},
      {{"--threads", "1", "--threads", "2"}, "--threads: is given 2 times"},
      {{"--kv_cache_bytes", "1"},
       "kv_cache_bytes: must be at least 1MiB, is 1"},
      {{"--kv_cache_bytes", "12 apples"}, "is '12 apples'"},
      {{"--kv_cache_bytes", "-5MiB"}, "is '-5MiB'"},
      {{"--kv_cache_bytes", "9999999999999TiB"}, "is '9999999999999TiB'"},
      {{"--max_queued_requests", "0"},
       "max_queued_requests: must be from 1 to"},
      {{"--max_new_tokens", "0"}, "max_new_tokens: must be from 1 to"},
      {{"--max_message_bytes", "2GiB"},
       "max_message_bytes: must be from 1 to 1GiB, is 2GiB"},
      {{"--model", "a=path,convolutions=yes"},
       "must be true or false, is 'yes'"},
      {{"--model", "a=path,metod=linear"}, "unknown option 'metod'"},
      {{"--model", "a=path,convolutions=true"},
       "model 'a': convolutions: needs a method"},
      {{"--model", "a=path,method=octonions"},
       "model 'a': unknown quantization method 'octonions'"},
      {{"--model", "a=path,plan="}, "a plan must follow 'plan='"},
      {{"--model", "a=path,plan=linear lm_head=keep"},
       "model 'a': plan: rule 'linear' has no selector"},
      {{"--model", "a=path,method=linear,plan=linear"},
       "model 'a': plan: says all by itself"},
      {{"--model", "a=~/code"}, "begins with ~"},
      {{"--compute", "float16"},
       "--compute: must be auto, float32 or bfloat16, is 'float16'"},
      {{"--kv_cache_dtype", "int4"},
       "--kv_cache_dtype: must be auto, float32, bfloat16 or int8, is 'int4'"},
      {{"--max_picture_pixels", "0"}, "max_picture_pixels: must be from 1 to"},
      {{"--picture_memory_bytes", "1MiB"},
       "picture_memory_bytes: must be at least 16MiB, is 1MiB"},
      {{"--max_batch_pictures", "0"}, "max_batch_pictures: must be from 1 to"},
      {{"--drain_seconds", "-1"},
       "drain_seconds: must be from 0 to 86400, is -1"},
      {{"--drain_seconds", "nan"}, "drain_seconds"},
      {{"--drain_seconds", "99999999"}, "is 99999999"},
      {{"--drain_seconds", "86400.5"}, "is 86400.5"},
      {{"--drain_seconds", "1e300"}, "is 1e+300"},
      {{"--otlp_endpoint", "collector:4318"},
       "otlp_endpoint: must be http://HOST:PORT or https://HOST:PORT, is"},
      {{"--otlp_endpoint", "http://me:pw@collector"},
       "otlp_endpoint: must hold no user or password"},
      {{"--trace_sample", "2"}, "trace_sample: must be from 0 to 1, is 2"},
      {{"--trace_sample", "nan"}, "trace_sample"},
      {{"--trace_sample", "all"},
       "trace_sample: must be a number from 0 to 1, is 'all'"},
      {{"--colour", "red"}, "--colour"},
      {{"extra"}, "extra"},
  };
  for (const auto& [flags, message] : cases) {
    EXPECT_THAT(Read(flags), StatusIs(absl::StatusCode::kInvalidArgument,
                                      HasSubstr(message)))
        << flags[0] << " " << flags.back();
  }
}

TEST(ConfigTest, PrintsHelpAndVersion) {
  ASSERT_OK_AND_ASSIGN(const Config help, Read({"--help"}));
  EXPECT_THAT(help.print, AllOf(HasSubstr("--kv_cache_bytes"),
                                HasSubstr("[1GiB]"), HasSubstr("Examples")));
  ASSERT_OK_AND_ASSIGN(const Config version, Read({"--version"}));
  EXPECT_THAT(version.print, ::testing::MatchesRegex("[0-9.]+\n"));
}

}  // namespace
}  // namespace ounce::server
