// Whom the certificates of clients name, by connection: the relay writes it
// down, and services look it up for a call.
//
// Threads: any thread may call anything.
#ifndef OUNCE_SERVER_NET_IDENTITIES_H_
#define OUNCE_SERVER_NET_IDENTITIES_H_

#include <string>
#include <unordered_map>
#include <utility>

#include "absl/strings/string_view.h"
#include "base/mutex.h"
#include "server/net/peer.h"

namespace ounce::server {

class Identities {
 public:
  // `name`: RelayName's.
  void Set(const std::string& name, std::string identity) {
    MutexLock lock(&mu_);
    by_name_[name] = std::move(identity);
  }
  void Remove(const std::string& name) {
    MutexLock lock(&mu_);
    by_name_.erase(name);
  }

  // `uri`: what gRPC calls the peer. Empty for a client without a certificate.
  std::string Of(absl::string_view uri) const {
    MutexLock lock(&mu_);
    if (by_name_.empty()) return "";
    const auto found = by_name_.find(RelayNameOfUri(uri));
    return found == by_name_.end() ? "" : found->second;
  }

 private:
  mutable Mutex mu_;
  std::unordered_map<std::string, std::string> by_name_ ABSL_GUARDED_BY(mu_);
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_NET_IDENTITIES_H_
