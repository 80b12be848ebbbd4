#include "hub/download.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "hub/backoff.h"
#include "hub/digest.h"
#include "hub/files.h"

namespace ounce::hub {
namespace {

// Whether a reply of 206 begins at `offset`.
bool BeginsAt(const HttpReply& reply, int64_t offset) {
  return reply.Header("content-range")
      .starts_with(absl::StrCat("bytes ", offset, "-"));
}

// The file that is written, with the hash of what is in it.
class PartialFile {
 public:
  PartialFile(const RemoteFile& remote, std::string path, const Hooks& hooks,
              const std::function<void(int64_t)>& on_bytes)
      : remote_(remote),
        path_(std::move(path)),
        hooks_(hooks),
        on_bytes_(on_bytes),
        digest_(remote.etag, remote.size) {}

  absl::Status Open() {
    RETURN_IF_ERROR(MakeFoldersOf(path_));
    file_ = OpenedFile(open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
    struct stat found = {};
    if (!file_.ok() || fstat(file_.get(), &found) != 0) {
      return CannotWrite(path_);
    }
    if (found.st_size > remote_.size) return Restart();
    RETURN_IF_ERROR(
        AddFile(digest_, file_.get(), found.st_size, path_, hooks_));
    return SeekTo(found.st_size);
  }

  int64_t size() const { return size_; }

  absl::Status Restart() {
    digest_ = Digest(remote_.etag, remote_.size);
    if (ftruncate(file_.get(), 0) != 0) return CannotWrite(path_);
    return SeekTo(0);
  }

  absl::Status Add(std::string_view bytes) {
    if (static_cast<int64_t>(bytes.size()) > remote_.size - size_) {
      return absl::DataLossError(
          absl::StrCat(remote_.path, ": the server sends more than the ",
                       remote_.size, " bytes that it has"));
    }
    RETURN_IF_ERROR(WriteAll(file_.get(), bytes, path_));
    digest_.Add(bytes);
    size_ += static_cast<int64_t>(bytes.size());
    on_bytes_(size_);
    return absl::OkStatus();
  }

  // Whether its bytes are the file's; then they are on the disk.
  absl::StatusOr<bool> Verify() {
    if (digest_.Finish() != remote_.etag) return false;
    if (fsync(file_.get()) != 0) return CannotWrite(path_);
    return true;
  }

 private:
  absl::Status SeekTo(int64_t offset) {
    if (lseek(file_.get(), offset, SEEK_SET) < 0) return CannotWrite(path_);
    size_ = offset;
    on_bytes_(size_);
    return absl::OkStatus();
  }

  const RemoteFile& remote_;
  const std::string path_;
  const Hooks& hooks_;
  const std::function<void(int64_t)>& on_bytes_;
  OpenedFile file_;
  Digest digest_;
  int64_t size_ = 0;
};

// One request for what is lacking.
absl::StatusOr<HttpReply> AskForRest(HubApi& api, const RemoteFile& file,
                                     PartialFile& partial) {
  HttpRequest request;
  request.url = file.url;
  request.follow = true;
  const int64_t offset = partial.size();
  if (offset > 0) {
    request.headers.push_back(absl::StrCat("Range: bytes=", offset, "-"));
  }
  bool begun = false;
  request.on_body = [&](const HttpReply& reply, std::string_view bytes) {
    if (!std::exchange(begun, true) && offset > 0 &&
        (reply.code != 206 || !BeginsAt(reply, offset))) {
      if (reply.code == 206) {
        return absl::DataLossError(absl::StrCat(
            file.path, ": the server sends another part than was asked for"));
      }
      RETURN_IF_ERROR(partial.Restart());
    }
    return partial.Add(bytes);
  };
  return api.Ask(std::move(request));
}

// Asks until all bytes are there.
absl::Status Fill(HubApi& api, const RemoteFile& file, PartialFile& partial) {
  Backoff backoff(api.hooks());
  int64_t furthest = partial.size();
  while (partial.size() < file.size) {
    const absl::StatusOr<HttpReply> reply = AskForRest(api, file, partial);
    // Not for bytes that came before: it has an end even if the file never has.
    if (partial.size() > furthest) {
      furthest = partial.size();
      backoff.Reset();
    }
    if (partial.size() == file.size) break;
    if (!reply.ok()) {
      if (!absl::IsUnavailable(reply.status())) return reply.status();
      RETURN_IF_ERROR(backoff.Next(reply.status()));
    } else if (MayPass(*reply)) {
      RETURN_IF_ERROR(
          backoff.Next(api.Refused(*reply, file.path), reply->retry_after));
    } else if (reply->code == 416) {  // what is here is no part of the file
      RETURN_IF_ERROR(partial.Restart());
      RETURN_IF_ERROR(backoff.Next(api.Refused(*reply, file.path)));
    } else if (reply->code == 200 || reply->code == 206) {
      RETURN_IF_ERROR(backoff.Next(absl::UnavailableError(
          absl::StrCat(file.path, ": the server sent less than all of it"))));
    } else {
      return api.Refused(*reply, file.path);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Download(HubApi& api, const RemoteFile& file,
                      const std::string& incomplete,
                      const std::string& destination,
                      const std::function<void(int64_t)>& on_bytes) {
  PartialFile partial(file, incomplete, api.hooks(), on_bytes);
  RETURN_IF_ERROR(partial.Open());
  for (const bool last : {false, true}) {
    RETURN_IF_ERROR(Fill(api, file, partial));
    ASSIGN_OR_RETURN(const bool right, partial.Verify());
    if (right) break;
    RETURN_IF_ERROR(partial.Restart());
    if (last) {
      return absl::DataLossError(absl::StrCat(
          file.path, ": the bytes from ", api.environment().endpoint,
          " do not have the hash ", file.etag, " that it names them by"));
    }
  }
  RETURN_IF_ERROR(MakeFoldersOf(destination));
  if (std::rename(incomplete.c_str(), destination.c_str()) != 0) {
    return CannotWrite(destination);
  }
  return absl::OkStatus();
}

}  // namespace ounce::hub
