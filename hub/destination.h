// Where downloaded files go: the hub's cache, or a plain folder.
#ifndef OUNCE_HUB_DESTINATION_H_
#define OUNCE_HUB_DESTINATION_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "hub/files.h"
#include "hub/hooks.h"
#include "hub/hub_api.h"
#include "hub/model_name.h"

namespace ounce::hub {

// Threads: InPlace and the paths may be asked by any; each file is locked
// while it is looked at and written.
class Destination {
 public:
  virtual ~Destination() = default;

  // The folder of the model, once it is finished.
  virtual std::string Folder(const std::string& commit) const = 0;
  // A folder on the file system that takes the bytes; it may not be there yet.
  virtual std::string Root() const = 0;

  // Where a file is written, and where it lies when it is whole.
  virtual std::string IncompletePath(const RemoteFile& file) const = 0;
  virtual std::string WholePath(const RemoteFile& file) const = 0;

  // The file whose lock is held while a file is written; empty: none has to be.
  virtual std::string LockPath(const RemoteFile& file) const = 0;

  // Whether the whole file is there. Errors: HasDigest's.
  virtual absl::StatusOr<bool> IsHere(const RemoteFile& file,
                                      const Hooks& hooks) const = 0;

  // All files are there: makes them the model.
  // Errors: those of writing (files.h).
  virtual absl::Status Finish(const std::string& commit,
                              const std::vector<RemoteFile>& files) const = 0;
};

// Of huggingface_hub's layout (cache_layout.h). A snapshot's links are made
// when all blobs are there, and the ref after them, so nobody finds half a
// model.
std::unique_ptr<Destination> IntoCache(const std::string& cache,
                                       const ModelName& name);

// Files as the repository has them. What is under way lies in `folder`'s
// .ounce_pull/.
std::unique_ptr<Destination> IntoFolder(const std::string& folder);

// What a finished folder says it holds, in .ounce_pull/finished.json.
struct FinishedFolder {
  std::string model;  // "org/name@revision"
  std::string commit;
  std::vector<std::string> include;
  std::vector<RemoteFile> files;  // without their addresses
};

// Errors: kNotFound where it is none, or files are missing or have other sizes.
absl::StatusOr<FinishedFolder> ReadFinishedFolder(const std::string& folder);
absl::Status WriteFinishedFolder(const std::string& folder,
                                 const FinishedFolder& finished);

// The file that is locked while a folder is filled.
std::string FolderLock(const std::string& folder);

}  // namespace ounce::hub

#endif  // OUNCE_HUB_DESTINATION_H_
