// The local cache of the Hugging Face hub, which its Python tools share.
//
//   <cache>/models--ORG--NAME/refs/REVISION         text: a commit
//   <cache>/models--ORG--NAME/blobs/ETAG            a file's bytes
//   <cache>/models--ORG--NAME/snapshots/COMMIT/...  the files, links to blobs
//   <cache>/.locks/models--ORG--NAME/ETAG.lock      who writes a blob
//
// Source: huggingface_hub, file_download.py.
#ifndef OUNCE_HUB_CACHE_LAYOUT_H_
#define OUNCE_HUB_CACHE_LAYOUT_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "hub/model_name.h"

namespace ounce::hub {

// "models--ORG--NAME".
std::string RepositoryFolder(const ModelName& name);

// The folder of a snapshot: `cache`/models--ORG--NAME/snapshots/COMMIT.
std::string SnapshotFolder(const std::string& cache, const ModelName& name,
                           std::string_view commit);

// The file that says which commit `name.revision` is.
std::string RefFile(const std::string& cache, const ModelName& name);

// The folder of `name`'s snapshot in the cache.
// Errors: kNotFound where there is none or its ref is empty; kInvalidArgument
// for a ref that names no commit.
absl::StatusOr<std::string> FindSnapshot(const std::string& cache,
                                         const ModelName& name);

}  // namespace ounce::hub

#endif  // OUNCE_HUB_CACHE_LAYOUT_H_
