// SPDX-License-Identifier: AGPL-3.0-only
//! How clients and the server speak. A test with a client takes this as its parameter; [`over!`](crate::over)
//! makes one `#[test]` of it for each.

use crate::client::Client;

/// How clients and the server speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Plain HTTP.
    Plain,
    /// TLS with a private CA, in the protocol that the client negotiates.
    Tls,
    /// The same, and the client is kept from HTTP/2.
    TlsHttp1,
    /// TLS to nginx, as the example in `deploy/nginx` has it, and plain HTTP from there.
    Nginx,
}

impl Transport {
    /// Whether clients speak TLS.
    pub fn is_tls(self) -> bool {
        self != Self::Plain
    }

    /// The version of HTTP in which requests of `client` reach the server.
    pub(crate) fn version(self, client: Client) -> &'static str {
        match self {
            Self::Tls if client.prefers_http2() => "HTTP/2.0",
            Self::Plain | Self::Tls | Self::TlsHttp1 | Self::Nginx => "HTTP/1.1",
        }
    }

    /// What must be installed for it.
    pub(crate) fn needs(self) -> &'static [Client] {
        if self == Self::Nginx { &[Client::Nginx] } else { &[] }
    }
}

/// Makes a test of each function for each transport: `over! { [Plain, Tls] first, second }`. A function that
/// is missing in the list is never used, and the compiler says so.
#[macro_export]
macro_rules! over {
    ([] $($test:ident),+ $(,)?) => {};
    ([Plain $(, $more:ident)*] $($test:ident),+ $(,)?) => {
        $crate::over! { plain Plain [$($more),*] $($test),+ }
    };
    ([Tls $(, $more:ident)*] $($test:ident),+ $(,)?) => {
        $crate::over! { tls Tls [$($more),*] $($test),+ }
    };
    ([TlsHttp1 $(, $more:ident)*] $($test:ident),+ $(,)?) => {
        $crate::over! { tls_http1 TlsHttp1 [$($more),*] $($test),+ }
    };
    ([Nginx $(, $more:ident)*] $($test:ident),+ $(,)?) => {
        $crate::over! { nginx Nginx [$($more),*] $($test),+ }
    };
    ($name:ident $transport:ident [$($more:ident),*] $($test:ident),+) => {
        mod $name {
            $(
                #[test]
                fn $test() {
                    super::$test($crate::Transport::$transport);
                }
            )+
        }
        $crate::over! { [$($more),*] $($test),+ }
    };
}
