// SPDX-License-Identifier: AGPL-3.0-only
//! The token service: what clients ask for, what they get, and tokens that are not what they seem.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{Guarded, backwards, basic, bearer, claims, line};
use crate::client::{Answer, delete, get, head, post, put};
use crate::role::refused;
use crate::server::eventually;

/// The access that a token is given, as `name:actions`.
fn access(token: &str) -> Vec<String> {
    let list = claims(token)["access"].clone();
    let text = |entry: &Value| {
        let actions: Vec<_> =
            entry["actions"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
        format!(
            "{}:{}:{}",
            entry["type"].as_str().unwrap(),
            entry["name"].as_str().unwrap(),
            actions.join(",")
        )
    };
    list.as_array().unwrap().iter().map(text).collect()
}

#[test]
fn a_token_is_for_what_was_asked_and_may_be_had() {
    let guarded = Guarded::start();
    for (who, scope, expected) in [
        ("ci", "repository:dev/app:pull,push", ["repository:dev/app:pull,push"].as_slice()),
        ("reader", "repository:dev/app:pull,push", &["repository:dev/app:pull"]),
        ("reader", "repository:dev/app:push,delete", &[]),
        ("nobody", "repository:dev/app:pull", &[]),
        ("anonymous", "repository:public/app:pull,push", &["repository:public/app:pull"]),
        ("anonymous", "repository:dev/app:pull", &[]),
        (
            "alice",
            "repository:prod/a:*%20repository:dev/a:*",
            &["repository:dev/a:pull,push,delete", "repository:prod/a:pull,push"],
        ),
        ("alice", "repository:b:pull+repository:a:pull", &["repository:a:pull", "repository:b:pull"]),
        ("alice", "repository:a:pull&scope=repository:b:pull", &["repository:a:pull", "repository:b:pull"]),
        ("alice", "registry:catalog:*", &["registry:catalog:*"]),
        ("alice", "", &[]),
        // Escalation by odd scopes.
        ("reader", "repository:dev/a:pull,push,*", &["repository:dev/a:pull"]),
        ("reader", "repository:dev%2Fa:pull", &["repository:dev/a:pull"]),
        ("reader", "repository:dev%252Fa:pull", &[]),
        ("reader", "repository:*:*", &[]),
        ("reader", "repository:dev/../prod/a:pull", &[]),
        ("reader", "repository:host:5000/dev/a:pull", &[]),
        ("reader", "repository:dev/a:pull&scope=repository:dev/a:push", &["repository:dev/a:pull"]),
        ("signer", "repository:dev/app:pull,push", &["repository:dev/app:pull,push"]),
    ] {
        assert_eq!(access(&guarded.token(who, scope)), expected, "{who} {scope}");
    }
}

#[test]
fn a_token_answers_as_the_specification_has_it() {
    let guarded = Guarded::start();
    let answer = guarded
        .send("ci", get("/token?service=stella-registry&scope=repository:dev/app:pull&account=ci"))
        .is(200);
    assert_eq!(answer.must("cache-control"), "no-store");
    let body = answer.json();
    assert_eq!(body["token"], body["access_token"]);
    assert_eq!(body["expires_in"], 3600);
    assert!(
        body["issued_at"].as_str().unwrap().ends_with('Z') && body.get("refresh_token").is_none(),
        "{body}"
    );
    let claims = claims(body["token"].as_str().unwrap());
    assert_eq!(
        (&claims["iss"], &claims["aud"], &claims["sub"]),
        (&json!("stella-registry"), &json!("stella-registry"), &json!("ci"))
    );
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 3600);
    // What it need not say it does not say: each request carries it.
    assert!(claims["stella"].get("session").is_none() && claims.get("nbf").is_none(), "{claims}");
    let token = body["token"].as_str().unwrap();
    assert!(token.len() < 520, "{}", token.len());
    let again = guarded.token("ci", "repository:dev/app:pull");
    assert_ne!(claims["jti"], super::claims(&again)["jti"], "no two tokens have one name");
    // Whoever wants to check it finds the key.
    let keys = get("/.well-known/jwks.json").to(&guarded.server).is(200).json();
    let token = body["token"].as_str().unwrap();
    let header = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    assert_eq!(header["alg"], "ES256");
    assert!(keys["keys"].as_array().unwrap().iter().any(|key| key["kid"] == header["kid"]), "{keys}");
    assert!(!keys.to_string().contains("\"d\""), "no private key");
    for (target, status) in [("/token?service=other", 400), ("/token?account=alice", 400)] {
        guarded.send("ci", get(target)).is(status);
    }
    guarded.send("ci", put("/token")).is(405);
    get("/token").header("Authorization", basic("ci", "wrong")).to(&guarded.server).is(401);
}

#[test]
fn a_token_is_taken_for_what_it_is_for() {
    let guarded = Guarded::start();
    let (_, layer) = guarded.image("dev/app", "v1");
    guarded.image("dev/other", "v1");
    let token = guarded.token("ci", "repository:dev/app:pull");
    let with = |request| bearer(request, &token).to(&guarded.server);
    with(get("/v2/dev/app/manifests/v1")).is(200);
    with(get(format!("/v2/dev/app/blobs/{layer}"))).is(200);
    // Twice: the second time it is known.
    with(get("/v2/dev/app/manifests/v1")).is(200);
    let narrow = |answer: Answer, scope: &str| {
        refused(&answer, 401, "UNAUTHORIZED");
        let expected = format!(
            "Bearer realm=\"http://registry.test/token\",service=\"stella-registry\",scope=\"{scope}\",error=\"insufficient_scope\""
        );
        assert_eq!(answer.must("www-authenticate"), expected);
    };
    narrow(with(post("/v2/dev/app/blobs/uploads/")), "repository:dev/app:pull,push");
    narrow(with(get("/v2/dev/other/manifests/v1")), "repository:dev/other:pull");
    narrow(with(get("/v2/_catalog")), "registry:catalog:*");
    // No token would do: who asks for one again would ask for ever.
    refused(&with(get("/v2/prod/app/manifests/v1")), 403, "DENIED");
    refused(&with(delete("/v2/dev/app/manifests/v1")), 403, "DENIED");
    // One of nobody may lead to a login.
    let anonymous = guarded.token("anonymous", "repository:dev/app:pull");
    let answer = bearer(get("/v2/dev/app/manifests/v1"), &anonymous).to(&guarded.server);
    narrow(answer, "repository:dev/app:pull");
    // Who may do everything reads with a token for reading alone.
    let push = guarded.token("alice", "repository:dev/app:push");
    narrow(bearer(get("/v2/dev/app/manifests/v1"), &push).to(&guarded.server), "repository:dev/app:pull");
    let catalog = guarded.token("reader", "registry:catalog:*");
    let list = bearer(get("/v2/_catalog"), &catalog).to(&guarded.server).is(200).json();
    assert_eq!(list["repositories"], json!(["dev/app", "dev/other"]));
}

#[test]
fn a_forged_token_is_refused_and_says_why() {
    let guarded = Guarded::start();
    guarded.image("dev/app", "v1");
    let token = guarded.token("reader", "repository:dev/app:pull");
    let parts: Vec<&str> = token.split('.').collect();
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let mut wider = claims(&token);
    wider["access"][0]["actions"] = json!(["pull", "push", "delete"]);
    wider["sub"] = json!("alice");
    let none = encode(&json!({"alg": "none", "typ": "JWT"}));
    let hs = encode(&json!({"alg": "HS256", "typ": "JWT"}));
    for (forged, error) in [
        (format!("{}.{}.{}", parts[0], encode(&wider), parts[2]), "invalid_token"),
        (format!("{none}.{}.", encode(&wider)), "invalid_token"),
        (format!("{none}.{}.{}", parts[1], parts[2]), "invalid_token"),
        (format!("{hs}.{}.{}", parts[1], parts[2]), "invalid_token"),
        (format!("{}.{}", parts[0], parts[1]), "invalid_token"),
        (format!("{token}.x"), "invalid_token"),
        ("x".repeat(17_000), "invalid_token"),
    ] {
        let answer = bearer(get("/v2/dev/app/manifests/v1"), &forged).to(&guarded.server);
        refused(&answer, 401, "UNAUTHORIZED");
        assert!(answer.must("www-authenticate").ends_with(&format!(",error=\"{error}\"")), "{answer}");
        assert!(!String::from_utf8_lossy(&answer.body).contains(parts[1]), "{answer}");
    }
    // An ID token, or any other, is not one of ours.
    let log = guarded.server.log();
    assert!(!log.contains(parts[2]), "{log}");
}

#[test]
fn a_token_ends_with_the_password_and_with_the_rule() {
    let guarded = Guarded::start();
    guarded.image("dev/app", "v1");
    let token = guarded.token("reader", "repository:dev/app:pull");
    let pull = || bearer(get("/v2/dev/app/manifests/v1"), &token).to(&guarded.server).status;
    assert_eq!(pull(), 200);
    std::fs::write(guarded.users(), line("reader", "another")).unwrap();
    guarded.server.hang_up();
    eventually("the token is no good", || pull() == 401);
}

#[test]
fn a_refresh_token_gives_tokens_until_it_is_revoked() {
    let guarded = Guarded::start();
    let login = guarded
        .send("ci", get("/token?service=stella-registry&client_id=docker&offline_token=true&account=ci"));
    let refresh = login.is(200).json()["refresh_token"].as_str().unwrap().to_owned();
    let form = |token: &str| {
        let body = format!(
            "grant_type=refresh_token&service=stella-registry&client_id=docker&scope=repository%3Adev%2Fapp%3Apull%2Cpush&refresh_token={token}"
        );
        post("/token")
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(body)
            .to(&guarded.server)
    };
    let answer = form(&refresh).is(200).json();
    assert_eq!(access(answer["access_token"].as_str().unwrap()), ["repository:dev/app:pull,push"]);
    assert_eq!(answer["scope"], "repository:dev/app:pull,push");
    form(&format!("{refresh}x")).is(401);
    form("").is(401);
    let listed = guarded.stella(&["token", "list"]).stdout;
    assert!(listed.contains("  ci  docker  ") && !listed.contains(&refresh), "{listed}");
    assert_eq!(guarded.stella(&["token", "revoke", "--user", "ci"]).code, Some(0));
    form(&refresh).is(401);
    // Anonymous gets none, and a new password ends it too.
    assert!(
        guarded
            .send("anonymous", get("/token?offline_token=true"))
            .is(200)
            .json()
            .get("refresh_token")
            .is_none()
    );
    let login = guarded.send("ci", get("/token?offline_token=true")).is(200);
    let refresh = login.json()["refresh_token"].as_str().unwrap().to_owned();
    form(&refresh).is(200);
    std::fs::write(guarded.users(), line("ci", "another")).unwrap();
    guarded.server.hang_up();
    eventually("the refresh token is no good", || form(&refresh).status == 401);
}

#[test]
fn a_token_that_no_request_could_carry_is_not_given() {
    let guarded = Guarded::start();
    let name = |number: usize| format!("dev/{number}/{}", "x".repeat(200));
    let ask = |count: usize| {
        let scopes: Vec<_> =
            (0..count).map(|number| format!("repository:{}:pull,push", name(number))).collect();
        let body = format!(
            "grant_type=password&username=ci&password={}&scope={}",
            backwards("ci"),
            scopes.join("+")
        );
        post("/token")
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(body)
            .to(&guarded.server)
    };
    let answer = ask(100);
    let message = refused(&answer, 400, "UNSUPPORTED")["message"].clone();
    assert!(message.as_str().unwrap().contains("ask for fewer repositories at once (`scope`)"), "{message}");
    // What is given is taken.
    let answer = ask(20).is(200).json();
    let token = answer["token"].as_str().unwrap();
    bearer(get("/v2/"), token).to(&guarded.server).is(200);
}

#[test]
fn a_password_can_be_posted() {
    let guarded = Guarded::start();
    let body = format!(
        "grant_type=password&username=ci&password={}&scope=repository:dev/a:pull&service=stella-registry&access_type=offline",
        backwards("ci")
    );
    let form = |body: &str| {
        post("/token")
            .header("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
            .body(body)
            .to(&guarded.server)
    };
    let answer = form(&body).is(200).json();
    assert_eq!(access(answer["access_token"].as_str().unwrap()), ["repository:dev/a:pull"]);
    assert!(answer["refresh_token"].is_string());
    form("grant_type=password&username=ci&password=wrong").is(401);
    form("grant_type=magic").is(400);
    form(&"x".repeat(70_000)).is(413);
    form("grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token=x.y.z").is(401);
}

#[test]
fn what_is_given_for_an_id_token_ends_with_it() {
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    let folder = tempfile::tempdir().unwrap();
    let (file, pair) = (folder.path().join("issuer.pem"), rcgen::KeyPair::generate().unwrap());
    std::fs::write(&file, pair.public_key_pem()).unwrap();
    let issuers = format!(
        "[{{name: ci, issuer: 'https://ci.example', audience: registry.example, jwks: {}}}]",
        file.display()
    );
    let guarded = Guarded::with(&[("STELLA_AUTH__ISSUERS", &issuers)]);
    // The server's time, by a token that it makes.
    let now = claims(&guarded.token("ci", ""))["iat"].as_u64().unwrap();
    let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
    for (ends_in, ours_ends_in) in [(300, 300), (7200, 3600)] {
        let claims_of_it = json!({
            "iss": "https://ci.example", "aud": "registry.example", "sub": "job", "iat": now, "exp": now + ends_in
        });
        let id_token = encode(&Header::new(Algorithm::ES256), &claims_of_it, &key).unwrap();
        let login = get("/token?offline_token=true").header("Authorization", basic("ci", &id_token));
        let answer = login.to(&guarded.server).is(200).json();
        assert!(answer.get("refresh_token").is_none(), "{answer}");
        let ours = claims(answer["token"].as_str().unwrap());
        assert_eq!(ours["sub"], "ci:job");
        let (exp, iat) = (ours["exp"].as_u64().unwrap(), ours["iat"].as_u64().unwrap());
        assert_eq!(answer["expires_in"], exp - iat);
        assert_eq!(exp, if ours_ends_in == ends_in { now + ends_in } else { iat + ours_ends_in });
    }
}

#[test]
fn two_credentials_get_no_token_and_one_refresh_token_can_be_revoked() {
    let guarded = Guarded::start();
    let ask = || guarded.authorized("ci", get("/token?offline_token=true"));
    for second in [basic("alice", "wrong"), basic("alice", "ecila"), "Bearer x".to_owned()] {
        ask().header("Authorization", second).to(&guarded.server).is(401);
    }
    let login = || ask().to(&guarded.server).is(200).json()["refresh_token"].as_str().unwrap().to_owned();
    let (one, other) = (login(), login());
    let status = |token: &str| {
        post("/token")
            .body(format!("grant_type=refresh_token&refresh_token={token}"))
            .to(&guarded.server)
            .status
    };
    assert_eq!((status(&one), status(&other)), (200, 200));
    let listed = guarded.stella(&["token", "list"]).stdout;
    let id = listed.split_whitespace().next().unwrap().to_owned();
    assert_eq!(guarded.stella(&["token", "revoke", &id]).code, Some(0));
    let mut statuses = [status(&one), status(&other)];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401]);
}

#[test]
fn keys_outlive_a_restart() {
    let mut guarded = Guarded::start();
    guarded.image("dev/app", "v1");
    let token = guarded.token("reader", "repository:dev/app:pull");
    guarded.restart();
    bearer(head("/v2/dev/app/manifests/v1"), &token).to(&guarded.server).is(200);
}
