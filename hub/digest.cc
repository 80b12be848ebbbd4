#include "hub/digest.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status_macros.h"
#include "hub/files.h"

namespace ounce::hub {
namespace {

constexpr size_t kSha256Digits = 64;
constexpr size_t kSha1Digits = 40;
constexpr int64_t kChunk = 1 << 20;

absl::StatusOr<std::string> DigestOfFile(const std::string& path,
                                         std::string_view etag, int64_t size,
                                         const Hooks& hooks) {
  const OpenedFile file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.ok()) {
    return absl::DataLossError(
        absl::StrCat("cannot read '", path, "': ", std::strerror(errno)));
  }
  Digest digest(etag, size);
  RETURN_IF_ERROR(AddFile(digest, file.get(), size, path, hooks));
  return digest.Finish();
}

}  // namespace

bool IsDigest(std::string_view etag) {
  return (etag.size() == kSha1Digits || etag.size() == kSha256Digits) &&
         std::all_of(etag.begin(), etag.end(), [](char c) {
           return absl::ascii_isdigit(static_cast<unsigned char>(c)) ||
                  (c >= 'a' && c <= 'f');
         });
}

Digest::Digest(std::string_view etag, int64_t size)
    : context_(EVP_MD_CTX_new()) {
  const bool git = etag.size() == kSha1Digits;
  OUNCE_CHECK(
      context_ != nullptr &&
          EVP_DigestInit_ex(context_.get(), git ? EVP_sha1() : EVP_sha256(),
                            nullptr) == 1,
      "OpenSSL has SHA-1 and SHA-256");
  if (git) Add(absl::StrCat("blob ", size, std::string(1, '\0')));
}

void Digest::Add(std::string_view bytes) {
  EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size());
}

std::string Digest::Finish() {
  unsigned char hash[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_DigestFinal_ex(context_.get(), hash, &size);
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(hash), size));
}

absl::Status AddFile(Digest& digest, int file, int64_t size,
                     const std::string& path, const Hooks& hooks) {
  std::vector<char> buffer(static_cast<size_t>(std::min(size, kChunk)));
  for (int64_t done = 0; done < size;) {
    RETURN_IF_ERROR(hooks.Proceed());
    const ssize_t num_read =
        pread(file, buffer.data(),
              static_cast<size_t>(std::min(size - done, kChunk)), done);
    if (num_read < 0 && errno == EINTR) continue;
    if (num_read <= 0) {
      return absl::DataLossError(absl::StrCat(
          "cannot read '", path, "': ",
          num_read < 0 ? std::strerror(errno) : "it has become shorter"));
    }
    digest.Add({buffer.data(), static_cast<size_t>(num_read)});
    done += num_read;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Sha256OfFile(const std::string& path, int64_t size,
                                         const Hooks& hooks) {
  return DigestOfFile(path, std::string(kSha256Digits, '0'), size, hooks);
}

absl::StatusOr<std::string> GitHashOfFile(const std::string& path, int64_t size,
                                          const Hooks& hooks) {
  return DigestOfFile(path, std::string(kSha1Digits, '0'), size, hooks);
}

absl::StatusOr<bool> HasDigest(const std::string& path, std::string_view etag,
                               int64_t size, const Hooks& hooks) {
  std::error_code error;
  const auto found = std::filesystem::file_size(path, error);
  if (error || static_cast<int64_t>(found) != size) return false;
  ASSIGN_OR_RETURN(const std::string digest,
                   DigestOfFile(path, etag, size, hooks));
  return digest == etag;
}

}  // namespace ounce::hub
