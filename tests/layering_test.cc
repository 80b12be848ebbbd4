// Holds every #include of the tree to docs/architecture.md's dependency rule.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <regex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ounce {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Include {
  std::string file;  // from the root: "server/main.cc"
  int line;
  std::string target;  // "model/model.h" or "grpcpp/grpcpp.h"
};

// The product's folders; each may include itself and these.
const std::map<std::string, std::set<std::string>>& FolderRules() {
  static const auto* const kRules =
      new std::map<std::string, std::set<std::string>>{
          {"base", {}},
          {"quant", {"base"}},
          {"image", {"base"}},
          {"hub", {"base"}},
          {"model", {"quant", "image", "hub", "base"}},
          {"server", {"model", "quant", "image", "hub", "base"}},
          {"client", {"image", "hub", "base"}},
      };
  return *kRules;
}

// Inside a folder of the product, what a part of it may not include.
struct PartRule {
  std::string part;
  std::vector<std::string> forbidden;
  std::vector<std::string> but = {};  // allowed nonetheless
};
const std::vector<PartRule>& PartRules() {
  static const auto* const kRules = new std::vector<PartRule>{
      {"quant/kernels/", {"quant/methods/"}},
      // Files and JSON are read in one way; nothing of tensors comes along.
      {"model/files/", {"quant/", "model/"}, {"model/files/"}},
      {"model/tokenizer/",
       {"quant/", "model/"},
       {"model/tokenizer/", "model/files/"}},
      {"model/checkpoint/", {"model/"}, {"model/checkpoint/", "model/files/"}},
      {"model/processors/",
       {"model/"},
       {"model/processors/", "model/files/", "model/detector.h"}},
      {"model/layers/", {"model/"}, {"model/layers/"}},
      {"model/decoder/", {"model/tokenizer/", "model/arch/", "model/loader/"}},
      {"model/arch/", {"model/tokenizer/", "model/loader/"}},
      // Neither the protocol of calls nor what they are about.
      {"server/trace/",
       {"server/", "model/", "quant/", "image/"},
       {"server/trace/"}},
      // Sockets and frames: what is above them is nothing to it.
      {"server/net/",
       {"server/service/", "server/frontend/", "server/engine/",
        "server/scheduler/", "server/metrics/", "model/", "quant/", "image/"}},
      {"server/scheduler/",
       {"server/service/", "server/frontend/", "server/engine/",
        "server/net/"}},
      {"server/engine/",
       {"server/service/", "server/frontend/", "server/net/"}},
      // Whatever protocol asks: it is none of its business.
      {"server/frontend/",
       {"server/service/", "server/engine/", "server/net/", "server/metrics/"}},
      {"server/service/", {"server/engine/"}},
      {"server/metrics/",
       {"server/service/", "server/frontend/", "server/engine/"}},
  };
  return *kRules;
}

// Libraries whose headers stay in a few places.
struct LibraryRule {
  std::string library;
  std::vector<std::string> prefixes;
  std::vector<std::string> allowed;  // prefixes of files
};
const std::vector<LibraryRule>& LibraryRules() {
  static const auto* const kRules = new std::vector<LibraryRule>{
      {"LibTorch", {"ATen/", "c10/", "torch/"}, {}},
      {"gRPC",
       {"grpc/", "grpcpp/", "grpc++/"},
       {"server/service/", "server/main.cc", "client/"}},
      {"protobuf",
       {"google/", "ounce/v1/", "inference/"},
       {"server/service/", "server/config", "server/settings", "server/main.cc",
        "client/", "model/tokenizer/sentencepiece_model.cc"}},
      {"prometheus-cpp", {"prometheus/"}, {"server/metrics/"}},
      {"libmicrohttpd", {"microhttpd.h"}, {"server/metrics/"}},
      {"libcurl",
       {"curl/"},
       {"server/trace/curl_poster.cc", "hub/http_client.cc"}},
      {"OpenSSL",
       {"openssl/"},
       {"server/net/tls.cc", "server/service/tokens.cc", "client/new_token.cc",
        "client/peer_names.cc", "client/tls_files.cc", "hub/digest"}},
      {"libjpeg, libpng or libwebp",
       {"jpeglib.h", "jerror.h", "png.h", "webp/"},
       {"image/"}},
      {"Cairo", {"cairo/", "cairo.h"}, {"client/draw.cc"}},
      {"GoogleTest", {"gtest/", "gmock/"}, {}},
  };
  return *kRules;
}

bool StartsWithAny(std::string_view text,
                   const std::vector<std::string>& prefixes) {
  return std::any_of(
      prefixes.begin(), prefixes.end(),
      [&](const std::string& prefix) { return text.starts_with(prefix); });
}

std::string FirstFolder(const std::string& path) {
  const size_t slash = path.find('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

// What is wrong with one include, or nothing.
std::optional<std::string> Fault(const Include& include) {
  const std::string from = FirstFolder(include.file);
  const std::string to = FirstFolder(include.target);
  if (include.target.ends_with("_main.h") || include.target.ends_with(".cc")) {
    return "is a program's or a source file";
  }
  if (include.target == "torch/torch.h" || include.target == "ATen/ATen.h") {
    return "costs 10 s and more a file; include ATen/ops/<op>.h";
  }
  const auto folder = FolderRules().find(from);
  if (folder == FolderRules().end()) return std::nullopt;  // tests, bench
  if (to == "tests" || to == "bench" || to == "tools") {
    return "is no part of the product";
  }
  if (FolderRules().contains(to) && to != from &&
      !folder->second.contains(to)) {
    return absl::StrCat("goes the wrong way: ", from, "/ may include ",
                        folder->second.empty()
                            ? "nothing above it"
                            : absl::StrJoin(folder->second, ", "));
  }
  for (const PartRule& rule : PartRules()) {
    if (include.file.starts_with(rule.part) &&
        StartsWithAny(include.target, rule.forbidden) &&
        !StartsWithAny(include.target, rule.but)) {
      return absl::StrCat("goes the wrong way: not from ", rule.part);
    }
  }
  for (const LibraryRule& rule : LibraryRules()) {
    if (StartsWithAny(include.target, rule.prefixes) &&
        !StartsWithAny(include.file, rule.allowed)) {
      return absl::StrCat(rule.library, " belongs in ",
                          rule.allowed.empty()
                              ? "tests/ and bench/"
                              : absl::StrJoin(rule.allowed, ", "),
                          " alone");
    }
  }
  return std::nullopt;
}

// The folder of a path: "server/engine" of "server/engine/engine.h".
std::string Folder(const std::string& path) {
  return path.substr(0, path.rfind('/'));
}

// One circle of folders of the product that include each other, if there is
// one: "a -> b -> a". A folder and the folders in it may include each other.
std::optional<std::string> Circle(const std::vector<Include>& includes) {
  std::map<std::string, std::set<std::string>> edges;
  for (const Include& include : includes) {
    const std::string from = Folder(include.file);
    const std::string to = Folder(include.target);
    if (!FolderRules().contains(FirstFolder(include.file)) ||
        !FolderRules().contains(FirstFolder(include.target)) ||
        absl::StrCat(from, "/").starts_with(absl::StrCat(to, "/")) ||
        absl::StrCat(to, "/").starts_with(absl::StrCat(from, "/"))) {
      continue;
    }
    edges[from].insert(to);
  }
  std::set<std::string> done;
  std::vector<std::string> path;
  const std::function<std::optional<std::string>(const std::string&)> visit =
      [&](const std::string& folder) -> std::optional<std::string> {
    const auto seen = std::find(path.begin(), path.end(), folder);
    if (seen != path.end()) {
      return absl::StrCat(absl::StrJoin(seen, path.end(), " -> "), " -> ",
                          folder);
    }
    if (done.contains(folder)) return std::nullopt;
    path.push_back(folder);
    for (const std::string& next : edges[folder]) {
      if (const auto circle = visit(next)) return circle;
    }
    path.pop_back();
    done.insert(folder);
    return std::nullopt;
  };
  std::set<std::string> starts;
  for (const auto& [folder, ignored] : edges) starts.insert(folder);
  for (const std::string& folder : starts) {
    if (const auto circle = visit(folder)) return circle;
  }
  return std::nullopt;
}

// "file:line: target: what is wrong", for all of them.
std::vector<std::string> Faults(const std::vector<Include>& includes) {
  std::vector<std::string> faults;
  std::map<std::string, std::set<std::string>> libraries;  // of each file
  for (const Include& include : includes) {
    const auto report = [&](const std::string& what) {
      faults.push_back(absl::StrCat(include.file, ":", include.line, ": ",
                                    include.target, " ", what));
    };
    if (const auto fault = Fault(include)) report(*fault);
    for (const LibraryRule& rule : LibraryRules()) {
      if (StartsWithAny(include.target, rule.prefixes)) {
        std::set<std::string>& seen = libraries[include.file];
        seen.insert(rule.library);
        if (seen.contains("LibTorch") &&
            (seen.contains("gRPC") || seen.contains("protobuf"))) {
          report("meets LibTorch and protobuf in one file");
        }
      }
    }
  }
  if (const auto circle = Circle(includes)) {
    faults.push_back(absl::StrCat("a circle of folders: ", *circle));
  }
  return faults;
}

// The target of an #include line.
std::optional<std::string> IncludeTarget(const std::string& line) {
  static const std::regex* const kInclude =
      new std::regex(R"re(\s*#\s*include\s*["<]([^">]+)[">].*)re");
  std::smatch match;
  if (!std::regex_match(line, match, *kInclude)) return std::nullopt;
  return match[1].str();
}

std::vector<Include> ReadIncludes(const std::filesystem::path& root) {
  std::vector<Include> includes;
  for (const char* top : {"base", "hub", "quant", "image", "model", "server",
                          "client", "tests", "bench"}) {
    if (!std::filesystem::exists(root / top)) continue;
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(root / top)) {
      const std::string extension = entry.path().extension().string();
      if (extension != ".h" && extension != ".cc" && extension != ".def") {
        continue;
      }
      std::ifstream in(entry.path());
      int number = 0;
      for (std::string line; std::getline(in, line);) {
        ++number;
        if (auto target = IncludeTarget(line)) {
          includes.push_back(
              {std::filesystem::relative(entry.path(), root).string(), number,
               *std::move(target)});
        }
      }
    }
  }
  return includes;
}

TEST(LayeringTest, EveryIncludeGoesDownTheList) {
  const std::vector<Include> includes = ReadIncludes(OUNCE_SOURCE_ROOT);
  ASSERT_GT(includes.size(), 100u) << "no source tree at " OUNCE_SOURCE_ROOT;
  EXPECT_EQ(absl::StrJoin(Faults(includes), "\n"), "");
}

TEST(LayeringTest, NamesTheLineThatGoesUpward) {
  EXPECT_THAT(Faults({{"quant/matmul.h", 7, "model/model.h"}}),
              ElementsAre(HasSubstr("quant/matmul.h:7: model/model.h goes the "
                                    "wrong way")));
  EXPECT_THAT(Faults({{"client/client.cc", 1, "server/config.h"}}),
              ElementsAre(HasSubstr("wrong way")));
  EXPECT_THAT(Faults({{"image/decode.cc", 1, "quant/matmul.h"}}),
              ElementsAre(HasSubstr("image/ may include base")));
  EXPECT_THAT(
      Faults({{"server/scheduler/queue.h", 2, "server/engine/engine.h"}}),
      ElementsAre(HasSubstr("not from server/scheduler/")));
  EXPECT_THAT(Faults({{"model/tokenizer/bpe.cc", 3, "model/checkpoint/a.h"}}),
              ElementsAre(HasSubstr("not from model/tokenizer/")));
  EXPECT_THAT(Faults({{"server/main.cc", 1, "tests/testing/fake_clock.h"}}),
              ElementsAre(HasSubstr("no part of the product")));
}

TEST(LayeringTest, KeepsLibrariesInTheirPlaces) {
  EXPECT_THAT(Faults({{"model/model.cc", 4, "ATen/core/Tensor.h"}}),
              ElementsAre(HasSubstr("LibTorch belongs in tests/ and bench/")));
  EXPECT_THAT(Faults({{"server/engine/a.cc", 4, "grpcpp/server.h"}}),
              ElementsAre(HasSubstr("gRPC belongs in server/service/")));
  EXPECT_THAT(Faults({{"server/scheduler/a.h", 4, "ounce/v1/inference.pb.h"}}),
              ElementsAre(HasSubstr("protobuf belongs in")));
  EXPECT_THAT(Faults({{"server/frontend/a.cc", 4, "grpcpp/server.h"}}),
              ElementsAre(HasSubstr("gRPC belongs in server/service/")));
  EXPECT_THAT(Faults({{"server/service/a.cc", 4, "prometheus/counter.h"}}),
              ElementsAre(HasSubstr("prometheus-cpp belongs in")));
  EXPECT_THAT(
      Faults({{"model/processors/a.cc", 4, "jpeglib.h"}}),
      ElementsAre(HasSubstr("libjpeg, libpng or libwebp belongs in image/")));
  EXPECT_THAT(Faults({{"client/palette.cc", 4, "cairo/cairo.h"}}),
              ElementsAre(HasSubstr("Cairo belongs in client/draw.cc")));
  EXPECT_THAT(Faults({{"tests/a_test.cc", 4, "torch/torch.h"}}),
              ElementsAre(HasSubstr("ATen/ops")));
  EXPECT_THAT(Faults({{"tests/a_test.cc", 4, "ATen/ops/add.h"},
                      {"tests/a_test.cc", 5, "ounce/v1/inference.pb.h"}}),
              ElementsAre(HasSubstr("tests/a_test.cc:5")));
}

TEST(LayeringTest, FindsCircles) {
  EXPECT_THAT(Faults({{"server/metrics/a.h", 1, "server/scheduler/b.h"},
                      {"server/scheduler/b.h", 1, "server/metrics/a.h"}}),
              ElementsAre("a circle of folders: server/metrics -> "
                          "server/scheduler -> server/metrics"));
}

TEST(LayeringTest, AllowsWhatTheRuleAllows) {
  EXPECT_THAT(Faults({{"server/main.cc", 1, "server/engine/loaded_models.h"},
                      {"server/main.cc", 2, "grpcpp/server_builder.h"},
                      {"server/engine/e.cc", 3, "model/model.h"},
                      {"model/processors/d.cc", 3, "image/resize.h"},
                      {"client/draw.cc", 3, "image/decode.h"},
                      {"model/arch/codegen.cc", 4, "quant/matmul.h"},
                      {"client/cli_main.cc", 5, "ounce/v1/inference.pb.h"},
                      {"quant/methods/linear.cc", 6, "quant/quant_method.h"},
                      {"quant/registry.cc", 7, "quant/methods.def"},
                      {"tests/e2e/serve_test.cc", 8, "server/service/s.h"}}),
              IsEmpty());
}

}  // namespace
}  // namespace ounce
