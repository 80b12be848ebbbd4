// Encoding and decoding speed of a tokenizer, on one thread.
//
//   tokenizer_bench TOKENIZER_FOLDER CODE_FILE [PROSE_FILE]
//
// Prints MB/s (10^6 bytes of text a second of CPU time) for the code, the
// prose, and for text made to be slow: long words, where every merge is one of
// many.
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include "bench/timing.h"
#include "model/tokenizer/tokenizer.h"

namespace ounce::model {
namespace {

using bench::ProcessCpuSeconds;

constexpr size_t kTextBytes = 10'000'000;

// False, after a message, when the text cannot be encoded.
bool Measure(const Tokenizer& tokenizer, const char* name,
             const std::string& text) {
  double start = ProcessCpuSeconds();
  const auto ids = tokenizer.Encode(text);
  const double encode_seconds = ProcessCpuSeconds() - start;
  if (!ids.ok()) {
    std::fprintf(stderr, "%s: %s\n", name, ids.status().ToString().c_str());
    return false;
  }
  start = ProcessCpuSeconds();
  const std::string back = tokenizer.Decode(*ids, /*skip_special=*/false);
  const double decode_seconds = ProcessCpuSeconds() - start;
  const double megabytes = static_cast<double>(text.size()) / 1e6;
  std::printf(
      "%-24s %6.1f MB %9zu ids  encode %7.1f MB/s  decode %7.1f MB/s%s\n", name,
      megabytes, ids->size(), megabytes / encode_seconds,
      megabytes / decode_seconds, back == text ? "" : "  NOT EQUAL");
  return back == text;
}

// The file again and again, cut at a character.
std::string Repeated(const char* path) {
  std::ifstream in(path, std::ios::binary);
  const std::string once{std::istreambuf_iterator<char>(in), {}};
  std::string text;
  while (!once.empty() && text.size() < kTextBytes) text += once;
  text.resize(ValidUtf8Prefix(text.substr(0, kTextBytes)));
  return text;
}

std::string RandomLetters(size_t size, const std::string& letters) {
  std::mt19937 random(1);
  std::string text(size, ' ');
  for (char& c : text) c = letters[random() % letters.size()];
  return text;
}

int Main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr,
                 "usage: tokenizer_bench TOKENIZER_FOLDER CODE_FILE "
                 "[PROSE_FILE]\n");
    return 2;
  }
  const double start = ProcessCpuSeconds();
  const auto tokenizer = Tokenizer::Load(argv[1]);
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s\n", tokenizer.status().ToString().c_str());
    return 1;
  }
  std::printf("loaded %d tokens in %.0f ms\n", (*tokenizer)->size(),
              (ProcessCpuSeconds() - start) * 1e3);
  const std::string alphabet = "abcdefghijklmnopqrstuvwxyz";
  bool ok = Measure(**tokenizer, "code", Repeated(argv[2]));
  if (argc > 3) ok &= Measure(**tokenizer, "prose", Repeated(argv[3]));
  ok &= Measure(**tokenizer, "one letter", std::string(kTextBytes, 'a'));
  ok &= Measure(**tokenizer, "random letters",
                RandomLetters(kTextBytes, alphabet));
  ok &=
      Measure(**tokenizer, "e, t, a, o, n", RandomLetters(kTextBytes, "etaon"));
  ok &= Measure(**tokenizer, "spaces", std::string(kTextBytes, ' '));
  ok &= Measure(**tokenizer, "newlines", std::string(kTextBytes, '\n'));
  ok &= Measure(**tokenizer, "exclamation marks", std::string(kTextBytes, '!'));
  return ok ? 0 : 1;
}

}  // namespace
}  // namespace ounce::model

int main(int argc, char** argv) { return ounce::model::Main(argc, argv); }
