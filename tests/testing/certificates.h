// Real certificates, made by the openssl program in a folder of the test.
#ifndef OUNCE_TESTS_TESTING_CERTIFICATES_H_
#define OUNCE_TESTS_TESTING_CERTIFICATES_H_

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/check.h"

namespace ounce::testing {

// A certificate and its key, in PEM files.
struct Certificate {
  std::string cert;
  std::string key;
};

class Certificates {
 public:
  explicit Certificates(std::string folder) : folder_(std::move(folder)) {}

  // That signs itself, and others.
  Certificate MakeAuthority(const std::string& name) const {
    const Certificate made = FilesOf(name);
    OpenSsl("req -x509 " + NewKey(made) + " -days 30 -subj /CN=" + name +
            " -out " + made.cert);
    return made;
  }

  // Signed by `by`, for `names` ("DNS:localhost,IP:127.0.0.1"), from now on for
  // so many days; -1: it ended yesterday.
  Certificate Make(const std::string& name, const Certificate& by,
                   const std::string& names = "DNS:localhost,IP:127.0.0.1",
                   int days = 30) const {
    const Certificate made = FilesOf(name);
    const std::string request = folder_ + "/" + name + ".csr";
    const std::string extensions = folder_ + "/" + name + ".ext";
    std::ofstream(extensions)
        << (names.empty() ? "" : "subjectAltName=" + names) << "\n";
    OpenSsl("req -new " + NewKey(made) + " -subj /CN=" + name + " -out " +
            request);
    OpenSsl("x509 -req -in " + request + " -CA " + by.cert + " -CAkey " +
            by.key + " -days " + std::to_string(days) + " -extfile " +
            extensions + " -out " + made.cert);
    return made;
  }

  // Puts the files of one in the place of another's, one after the other, as
  // programs do that renew certificates.
  static void Replace(const Certificate& old, const Certificate& by) {
    for (const auto& [to, from] :
         {std::pair(old.key, by.key), std::pair(old.cert, by.cert)}) {
      std::filesystem::copy_file(from, to + ".new");
      std::filesystem::rename(to + ".new", to);
    }
  }

 private:
  Certificate FilesOf(const std::string& name) const {
    return {folder_ + "/" + name + ".pem", folder_ + "/" + name + ".key"};
  }
  static std::string NewKey(const Certificate& certificate) {
    return "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout " +
           certificate.key;
  }
  static void OpenSsl(const std::string& arguments) {
    OUNCE_CHECK(
        std::system(("openssl " + arguments + " 2>/dev/null").c_str()) == 0,
        "openssl makes a certificate");
  }

  const std::string folder_;
};

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_TESTING_CERTIFICATES_H_
