// Where calls may save models (--save_root), and what is being written there.
//
// Threads: any thread may call anything.
#ifndef OUNCE_SERVER_ENGINE_SAVE_ROOT_H_
#define OUNCE_SERVER_ENGINE_SAVE_ROOT_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace ounce::server {

class SaveRoot {
 public:
  // Empty: nothing may be saved.
  explicit SaveRoot(std::string folder = "");

  // A folder to make, which nobody else gets until this is gone. With it go the
  // folders above it that were made for it and are empty.
  class Place {
   public:
    virtual ~Place() = default;
    // Absolute, without symbolic links and "..", below the root.
    virtual const std::string& path() const = 0;
  };

  // `folder` is as in SaveModelRequest. Reads from the file system, and makes
  // what is missing above the folder.
  // Ownership: the place outlives the root.
  // Errors: kFailedPrecondition without a root, or when it is gone;
  //   kInvalidArgument for what is no path below a root; kPermissionDenied for
  //   one outside of it, whether there is something or not, and where the
  //   folders above can't be made; kAlreadyExists; kResourceExhausted for a full
  //   disk.
  absl::StatusOr<std::shared_ptr<const Place>> Take(
      const std::string& folder) const;

 private:
  struct Taken;
  class TakenPlace;

  const std::string folder_;
  const std::shared_ptr<Taken> taken_;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_SAVE_ROOT_H_
