#!/usr/bin/perl

# Not under valgrind: it starts nginx 200 times
#
# What is wrong in a configuration is an [emerg] at "nginx -t", one, with the
# file and the line that it is about; secrets are not shown.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use VidgenTest::Nginx;

# the parts that a case may replace
my %usual = (
    http     => '',
    zone     => '',
    database => 'vidgen_database "host=127.0.0.1 user=edge";',
    secret   => '',
    base     => 'base http://127.0.0.1:9;',
    knobs    => 'api_key env:TEST_API_KEY; header X-Key $vidgen_api_key;',
    submit   => <<'EOT',
        submit {
            url     $vidgen_base/submit;
            body    /url $vidgen_webhook_url;
            job_id  /id;
        }
EOT
    webhook  => <<'EOT',
        webhook {
            signature  hmac-sha256 header=X-Signature;
            secret     env:TEST_SECRET;
            job_id     /id;
            status     /status;
        }
EOT
    poll     => '',
    server   => 'vidgen_webhook_url https://example.com/video-webhook;',
    pass     => <<'EOT',
        location = /_vidgen {
            internal;
            proxy_pass                 $vidgen_url;
            proxy_ignore_client_abort  on;
            proxy_ignore_headers       X-Accel-Redirect;
        }
EOT
    generate => 'location = /generate-video { vidgen_generate; }',
    hook     => 'location = /video-webhook { vidgen_webhook; }',
);

my $config = <<'EOT';
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    %%T_HTTP%%
    %%T_ZONE%%
    %%T_DATABASE%%
    %%T_SECRET%%

    vidgen_provider alpha {
        %%T_BASE%%
        %%T_KNOBS%%
        %%T_SUBMIT%%
        %%T_POLL%%
        %%T_WEBHOOK%%
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        %%T_SERVER%%
        %%T_PASS%%
        %%T_GENERATE%%
        %%T_HOOK%%
    }
}
EOT

my $password = 'correct-horse-battery';

# What is tested; the parts that differ; what the line named begins with, or a
# pattern of it; what the message says.
my @cases = (database_cases(), zone_cases(), secret_cases(),
    provider_cases(), submit_cases(), poll_cases(), webhook_cases(),
    signature_cases(), pass_cases(), location_cases());

plan tests => 1 + @cases;

my $nginx = VidgenTest::Nginx->new(config => '', env => {
    TEST_API_KEY => 'the-api-key', TEST_SECRET => 'the-webhook-secret',
    TEST_EMPTY => '', TEST_CONNINFO => "host=db passwort=$password",
}, files => { empty => '', secret => "from-a-file\n" });

my ($passed, $said) = try_config({});
ok($passed, 'without an error it passes') or diag($said);

check(@$_) for @cases;


sub try_config {
    my ($parts) = @_;
    my %parts = (%usual, %$parts);
    $nginx->configure($config =~ s/%%T_(\w+)%%/$parts{ lc $1 }/ger);
    return $nginx->config_test;
}

sub check {
    my ($name, $parts, $at, $message) = @_;

    my ($passed, $said) = try_config($parts);
    my $file = $nginx->prefix . '/nginx.conf';
    my @lines = split /\n/, $nginx->read_file('nginx.conf');
    my $start = ref $at ? $at : qr/^\s*\Q$at\E/;
    my ($line) = grep { $lines[$_ - 1] =~ $start } 1 .. @lines;
    die "$name: no line for $at" unless $line;

    my @emerg = grep { /\[emerg\]/ } split /\n/, $said;
    my $right = !$passed && @emerg == 1
        && index($emerg[0], $message) > 0
        && $emerg[0] =~ /in \Q$file\E:$line$/
        && $said !~ /\Q$password\E|the-api-key|the-webhook-secret/
        && $said !~ /\[alert\]/;

    ok($right, $name) or diag("expected, at line $line: $message\n$said");
}


sub database_cases {
    my $knob = sub {
        my ($knob, $message) = @_;
        return ["database $knob", { database =>
            qq{vidgen_database "host=127.0.0.1" $knob;} },
            'vidgen_database', $message // qq{invalid parameter "$knob"}];
    };
    my $conninfo = sub {
        my ($name, $conninfo, $message) = @_;
        return ["connection string: $name", { database =>
            qq{vidgen_database "$conninfo";} }, 'vidgen_database', $message];
    };

    return (
        ['no database: generate', { database => '' },
            qr/vidgen_generate;/, '"vidgen_generate" needs "vidgen_database"'],
        ['no database: webhook', { database => '', generate => '' },
            qr/vidgen_webhook;/, '"vidgen_webhook" needs "vidgen_database"'],
        ['no database: job', { database => '', generate => '', hook =>
            "location /jobs/ {\n    vidgen_job;\n}" },
            'vidgen_job;', '"vidgen_job" needs "vidgen_database"'],
        ['a second database', { http => 'vidgen_database "host=127.0.0.2";' },
            'vidgen_database "host=127.0.0.1', 'is duplicate'],
        ['a database in a server', { database => '', server =>
            'vidgen_database "host=127.0.0.1";' }, 'vidgen_database',
            'is not allowed here'],
        ['a database without a value', { database => 'vidgen_database;' },
            'vidgen_database', 'invalid number of arguments'],
        ['an empty database', { database => 'vidgen_database "";' },
            'vidgen_database', 'is not set or empty'],
        ['a database of a variable that is not set', { database =>
            'vidgen_database env:TEST_MISSING;' }, 'vidgen_database',
            '"env:TEST_MISSING" is not set or empty'],
        ['a database of an empty variable', { database =>
            'vidgen_database env:TEST_EMPTY;' }, 'vidgen_database',
            '"env:TEST_EMPTY" is not set or empty'],
        ['a database of no variable', { database => 'vidgen_database env:;' },
            'vidgen_database', '"env:" wants the name of a variable'],
        ['a database of a file that is not there', { database =>
            'vidgen_database file:missing;' }, 'vidgen_database',
            'is not set or empty'],
        ['a database of an empty file', { database =>
            'vidgen_database file:empty;' }, 'vidgen_database',
            'is not set or empty'],
        ['a database of a folder', { database => 'vidgen_database file:.;' },
            'vidgen_database', 'failed (21: Is a directory)'],
        ['a connection string without quotes', { database =>
            "vidgen_database host=db password=$password user=edge;" },
            'vidgen_database', 'invalid parameter 2: a connection string'],

        $knob->('connections=0'), $knob->('connections=65'),
        $knob->('connections=many'), $knob->('connections='),
        $knob->('timeout=99ms'), $knob->('timeout=never'),
        $knob->('timeout='), $knob->('queue=0'), $knob->('queue=-1'),
        $knob->('queue=x'), $knob->('notify=maybe'), $knob->('notify='),
        $knob->('colour=red', 'invalid parameter 2'),

        $conninfo->('a word alone', "host=db $password",
            'missing "..." in connection info'),
        $conninfo->('an unknown keyword', "host=db passwort=$password",
            'invalid connection option "..."'),
        $conninfo->('an open quote', "host=db password='$password",
            'invalid connection string'),
        $conninfo->('a bad escape', "postgresql://edge:$password%zz\@db/",
            'invalid percent-encoded token: "..."'),
        $conninfo->('an unknown argument',
            "postgresql://edge:$password\@db/?colour=$password",
            'invalid URI query parameter: "..."'),
        $conninfo->('ports that do not match',
            "host=127.0.0.1,127.0.0.2,127.0.0.3 port=1,2 password=$password",
            'do not match'),
        $conninfo->('a service', "service=app password=$password",
            '"service" is not supported'),
        $conninfo->('a bad timeout',
            "host=127.0.0.1 connect_timeout=soon password=$password",
            'invalid "connect_timeout"'),
        $conninfo->('a host that is not there',
            "host=db.invalid password=$password",
            'host "db.invalid" was not found and there is no "resolver"'),
        ['a wrong connection string in a variable', { database =>
            'vidgen_database env:TEST_CONNINFO;' }, 'vidgen_database',
            'invalid connection option "..."'],
    );
}


sub zone_cases {
    my $zone = sub {
        my ($value, $message) = @_;
        return ["zone $value", { zone => "vidgen_zone $value;" },
            'vidgen_zone', $message];
    };
    return (
        $zone->('vidgen', 'invalid parameter "vidgen"'),
        $zone->(':10m', 'invalid parameter ":10m"'),
        $zone->('vidgen:', 'invalid parameter "vidgen:"'),
        $zone->('vidgen:big', 'invalid parameter "vidgen:big"'),
        $zone->('vidgen:-1m', 'invalid parameter "vidgen:-1m"'),
        $zone->('vidgen:28k', 'zone "vidgen:28k" is too small'),
        ['a second zone', { http => 'vidgen_zone a:1m;',
            zone => 'vidgen_zone b:1m;' }, 'vidgen_zone b', 'is duplicate'],
        ["another module's zone", { zone => 'vidgen_zone limit:1m;', http =>
            'limit_req_zone $uri zone=limit:1m rate=1r/s;' }, 'vidgen_zone',
            'the shared memory zone "limit" is already declared'],
        ["another module's zone, by default", { http =>
            'limit_req_zone $uri zone=vidgen:1m rate=1r/s;' }, qr/^\}$/,
            'the shared memory zone "vidgen" is already declared'],
    );
}


sub secret_cases {
    return (
        ['a secret that is not set', { secret =>
            'vidgen_secret env:TEST_MISSING env:TEST_SECRET;' },
            'vidgen_secret', '"env:TEST_MISSING" is not set or empty'],
        ['a second secret', { http => 'vidgen_secret file:secret;',
            secret => 'vidgen_secret env:TEST_SECRET;' },
            'vidgen_secret env', 'is duplicate'],
        ['a secret of a file that is not there', { secret =>
            'vidgen_secret file:missing;' }, 'vidgen_secret',
            'is not set or empty'],
        ['idempotency: no time', { http => 'vidgen_idempotency ttl=long;' },
            'vidgen_idempotency', 'invalid parameter "ttl=long"'],
        ['idempotency: too short', { http => 'vidgen_idempotency ttl=999ms;' },
            'vidgen_idempotency', 'invalid parameter "ttl=999ms"'],
        ['idempotency: unknown', { http => 'vidgen_idempotency optional;' },
            'vidgen_idempotency', 'invalid parameter "optional"'],
        ['a second idempotency', { http => "vidgen_idempotency required;\n"
            . 'vidgen_idempotency ttl=1h;' }, 'vidgen_idempotency ttl',
            'is duplicate'],
    );
}


sub provider_cases {
    my $named = sub {
        my ($name, $message) = @_;
        return ["a provider named $name", { http =>
            "vidgen_provider $name { probe { url http://127.0.0.1/; } }" },
            "vidgen_provider $name", $message];
    };
    my $base = sub {
        my ($base, $message) = @_;
        return ["base $base", { base => "base $base;" }, 'base',
            $message // 'must be a URL'];
    };
    my $knobs = sub {
        my ($name, $knobs, $at, $message) = @_;
        return [$name, { knobs => $knobs }, $at, $message];
    };

    return (
        ['a provider twice', { http => 'vidgen_provider alpha { webhook { '
            . "signature github; secret x; job_id /id; status /s; } }\n" },
            qr/^    vidgen_provider alpha \{$/, 'is duplicate: "alpha"'],
        $named->('""', 'needs a name of 1 to 63 characters'),
        $named->('a' x 64, 'needs a name of 1 to 63 characters'),
        $named->('a/b', 'with other characters than letters'),
        $named->('"a b"', 'with other characters than letters'),
        ['a provider without a part that matters', { http =>
            "vidgen_provider beta {\nprobe { url http://127.0.0.1/; } }" },
            'vidgen_provider beta',
            'provider "beta" has none of "submit", "poll" and "webhook"'],
        ['a provider in a server', { server => 'vidgen_provider beta { }' },
            'vidgen_provider beta', 'is not allowed here'],
        ['an unknown knob', { knobs => 'colour red;' }, 'colour',
            'unknown directive "colour"'],
        ['a knob of another part', { knobs => 'url http://127.0.0.1/;' },
            'url http', '"url" directive is not allowed here'],
        ['a directive of nginx in a provider', { knobs => 'root /tmp;' },
            'root', '"root" directive is not allowed here'],
        ['a knob outside', { http => 'api_key x;' }, 'api_key x',
            '"api_key" directive is not allowed here'],

        $base->('env:TEST_MISSING', 'nothing that it lists is set'),
        $base->('env:TEST_MISSING env:TEST_EMPTY',
            'nothing that it lists is set'),
        $base->('ftp://127.0.0.1'), $base->('127.0.0.1:9'),
        $base->('http://'), $base->('http://user@127.0.0.1'),
        $base->('http://127.0.0.1/?a=b'), $base->('http://127.0.0.1/../a'),
        $base->('"http://127.0.0.1/a b"'),
        ['base twice', { knobs => 'base http://127.0.0.1:8;' },
            'base http://127.0.0.1:8', 'is duplicate'],
        ['base used and not there', { base => '' }, 'url     $vidgen_base',
            'uses "$vidgen_base" without "base"'],

        $knobs->('an API key that is not set', 'api_key env:TEST_MISSING;',
            'api_key', '"env:TEST_MISSING" is not set or empty'),
        $knobs->('an API key twice', "api_key env:TEST_API_KEY;\n"
            . "api_key again;", 'api_key again', 'is duplicate'),
        $knobs->('an API key used and not there', 'header X-Key '
            . '$vidgen_api_key;', 'header', 'without "api_key"'),
        $knobs->('a header without a good name', 'header "X Key" a;',
            'header', 'has an invalid name "X Key"'),
        $knobs->('a header that is ours', 'header content-length 3;',
            'header', 'may not set "content-length"'),
        $knobs->('a header twice', "header X-A a;\nheader x-a b;",
            'header x-a', 'is duplicate: "x-a"'),
        $knobs->('a header with a line break', "header X-A \"a\nb\";",
            'b"', 'has control characters'),
        $knobs->('a header of an unknown variable', 'header X-A $nothing;',
            'header', 'may use only the variables of provider definitions'),
        $knobs->("a header of the request's variable", 'header X-A $uri;',
            'header', 'not "$uri"'),
        $knobs->('a header of a value that is not there',
            'header X-A $vidgen_body;', 'header',
            'may not use "$vidgen_body" here'),
        $knobs->('a broken variable', 'header X-A "a ${vidgen_prompt";',
            'header', 'no closing "}"'),
        $knobs->('a broken variable name', 'header X-A "a $ b";',
            'header', 'has an invalid variable name'),
    );
}


sub submit_cases {
    my $submit = sub {
        my ($name, $knobs, $at, $message) = @_;
        return ["submit: $name", { submit => "submit {\n$knobs\n}" }, $at,
            $message];
    };
    my $more = sub {
        my ($name, $knobs, $at, $message) = @_;
        return $submit->($name, "url \$vidgen_base/submit;\njob_id /id;\n"
            . $knobs, $at, $message);
    };
    my $url = sub {
        my ($url, $message) = @_;
        return $submit->("url $url", "url $url;\njob_id /id;", 'url',
            $message);
    };

    return (
        $submit->('no url', 'job_id /id;', 'submit {',
            '"submit" of provider "alpha" has no "url"'),
        $submit->('no job_id', 'url $vidgen_base/a;', 'submit {',
            '"submit" of provider "alpha" has no "job_id"'),
        ['submit: twice',
            { poll => 'submit { url $vidgen_base/; job_id /i; }' },
            'submit { url', 'is duplicate'],
        $more->('url twice', 'url $vidgen_base/other;', 'url $vidgen_base/o',
            'is duplicate'),
        $url->('""', 'is empty'),
        $url->('/submit', 'must begin with "$vidgen_base"'),
        $url->('$vidgen_model/submit', 'must begin with "$vidgen_base"'),
        $url->('http://$vidgen_model/', 'must begin with'),
        $url->('http://api$vidgen_model/', 'may have no variable in its host'),
        $url->('$vidgen_base$vidgen_model', 'must go on with "/" or "?"'),
        $url->('"$vidgen_base/a b"', 'has a character that a URL cannot have'),
        $url->('http://127.0.0.1/a/../b', 'has ".", ".."'),
        $url->('$vidgen_base/?key=$vidgen_api_key',
            'may not use "$vidgen_api_key": URLs are logged'),
        $url->('$vidgen_base/$vidgen_provider_job_id',
            'may not use "$vidgen_provider_job_id" here'),
        $url->('$vidgen_base/$vidgen_kept_a', 'in "poll" only'),
        $more->('query with the key', 'query key $vidgen_api_key;', 'query',
            'may not use "$vidgen_api_key": URLs are logged'),
        $more->('query without a name', 'query "" a;', 'query',
            'has an empty name'),
        $more->('method GET', 'method GET;', 'method',
            'may not be "GET" here'),

        $submit->('malformed pointer of the job id',
            "url \$vidgen_base/a;\njob_id id;", 'job_id',
            'has a malformed JSON Pointer "id"'),
        $submit->('empty pointer of the job id',
            "url \$vidgen_base/a;\njob_id \"\";", 'job_id',
            'has an empty JSON Pointer'),
        $submit->('second pointer malformed',
            "url \$vidgen_base/a;\njob_id /id /a~2b;", 'job_id',
            'has a malformed JSON Pointer "/a~2b"'),
        $more->('pointer of the body', 'body prompt $vidgen_prompt;', 'body',
            'has a malformed JSON Pointer "prompt"'),
        $more->('pointer that ends with a tilde', 'body /a~ x;', 'body',
            'has a malformed JSON Pointer "/a~"'),
        $more->('type of the body', 'body /a x float;', 'body',
            'has an unknown type "float"'),
        $more->('word of the status', 'status /s done=ready;', 'status',
            'which is not word=status'),
        $more->('status', 'status finished;', 'status',
            'neither a path nor a word of the map nor a status'),
        $more->('two statuses', 'status queued processing;', 'status',
            'names two fixed statuses'),
        $more->('word twice', "status /s a=queued;\nstatus a=failed;",
            'status a=failed', 'maps "a" twice'),
        $more->('condition', 'accept code 0;', 'accept',
            'has a malformed JSON Pointer "code"'),
        $more->('name of keep', 'keep A-B /a;', 'keep',
            'has a name with other characters'),
        $more->('keep twice', "keep a /a;\nkeep a /b;", 'keep a /b',
            'is duplicate: "a"'),
        $more->('refused', 'refused 600;', 'refused',
            'has an invalid HTTP status "600"'),
        $more->('refused and unknown', "refused 500 502;\nunknown 502;",
            'submit {', 'has the same status in "refused" and in "unknown"'),
        $more->('estimated_time', 'estimated_time soon;', 'estimated_time',
            'has an invalid time "soon"'),
        $more->('estimated_time twice',
            "estimated_time 1m;\nestimated_time 2m;", 'estimated_time 2m',
            'is duplicate'),
        $more->('max_jobs', 'max_jobs 0;', 'max_jobs',
            'has an invalid number "0"'),
        $more->('max_jobs twice', "max_jobs 1;\nmax_jobs 2;", 'max_jobs 2',
            'is duplicate'),
        $more->('idempotent without a key', 'idempotent;', 'idempotent',
            '"idempotent" needs "$vidgen_attempt_id" as the key'),
        $more->('a number of arguments', 'max_jobs 1 2;', 'max_jobs',
            'invalid number of arguments'),
    );
}


sub poll_cases {
    my $poll = sub {
        my ($name, $knobs, $at, $message) = @_;
        return ["poll: $name", { poll => "poll {\n$knobs\n}" }, $at,
            $message];
    };
    my $url = 'url $vidgen_base/jobs/$vidgen_provider_job_id;';
    my $read = "status /s;\nvideo_url /u;";

    return (
        $poll->('no url', $read, 'poll {',
            '"poll" of provider "alpha" has no "url"'),
        $poll->('no status', "$url\nvideo_url /u;", 'poll {',
            '"poll" of provider "alpha" has no "status"'),
        $poll->('no video_url', "$url\nstatus /s;", 'poll {',
            '"poll" of provider "alpha" has no "video_url"'),
        $poll->('no job', "url \$vidgen_base/jobs;\n$read", 'poll {',
            'does not say which job'),
        $poll->("the request's variable", "url \$vidgen_base/\$uri;\n$read",
            'url $vidgen_base/$uri', 'not "$uri"'),
        $poll->('what a job does not keep', "$url\n$read\n"
            . 'query d $vidgen_duration;', 'query d',
            'may not use "$vidgen_duration" here'),
        $poll->('body without POST', "$url\n$read\nbody /a b;", 'body /a',
            '"body" needs "method POST"'),
        $poll->('what nothing keeps', "url \$vidgen_kept_url;\n$read",
            'url $vidgen_kept_url', '"$vidgen_kept_url" has no "keep url"'),
        $poll->('status of then', "$url\n$read\nthen \$vidgen_base/r/"
            . '$vidgen_provider_job_id failed=9xx;', 'then',
            'has an invalid HTTP status "9xx"'),
        $poll->('parameter of then', "$url\n$read\nthen \$vidgen_base/r "
            . 'never;', 'then', 'has an invalid parameter "never"'),
        ['probe: ok', { poll => "probe { url \$vidgen_base/;\nok 99; }" },
            'ok 99', 'has an invalid HTTP status "99"'],
        ['probe: no url', { poll => 'probe { ok 404; }' }, 'probe {',
            '"probe" of provider "alpha" has no "url"'],
        ['probe: a value of the job', { poll =>
            "probe {\nurl \$vidgen_base/\$vidgen_prompt; }" },
            'url $vidgen_base/$vidgen_prompt',
            'may not use "$vidgen_prompt" here'],
    );
}


sub webhook_cases {
    my $webhook = sub {
        my ($name, $knobs, $at, $message) = @_;
        return ["webhook: $name", { webhook => "webhook {\n$knobs\n}" }, $at,
            $message];
    };
    my $sign = "signature hmac-sha256 header=X-S;\nsecret env:TEST_SECRET;\n";

    return (
        $webhook->('no signature', "job_id /id;\nstatus /s;", 'webhook {',
            '"webhook" of provider "alpha" has no "signature"'),
        $webhook->('no status', "${sign}job_id /id;", 'webhook {',
            '"webhook" of provider "alpha" has no "status"'),
        ['webhook: no job', { submit => '', generate => '', webhook =>
            "webhook {\n${sign}status /s;\n}" }, 'webhook {',
            'does not say which job'],
        $webhook->('a fixed status', "${sign}job_id /id;\nstatus failed;",
            'status', 'may name a fixed status in "submit" only'),
        $webhook->('pointer of the video',
            "${sign}status /s;\nvideo_url url;", 'video_url',
            'has a malformed JSON Pointer "url"'),
        $webhook->('pointer of the challenge',
            "${sign}status /s;\nchallenge challenge;", 'challenge',
            'has a malformed JSON Pointer "challenge"'),
        $webhook->('options', "${sign}status /s;\noptions 404;", 'options',
            'must be a status from 200 to 299'),
        $webhook->('secret that is not set', "signature hmac-sha256 header=X;"
            . "\nsecret env:TEST_MISSING env:TEST_SECRET;\nstatus /s;",
            'secret', '"env:TEST_MISSING" is not set or empty'),
        $webhook->('token without vidgen_secret',
            "signature token;\nstatus /s;", 'webhook {',
            '"signature token" of provider "alpha" needs a "poll"'),
        ['webhook: token, a poll, no vidgen_secret', {
            poll => 'poll { url $vidgen_base/$vidgen_provider_job_id; '
                . 'status /s; video_url /u; }',
            webhook => 'webhook { signature token; status /s; }' },
            qr/^    vidgen_provider alpha/,
            '"signature token" of provider "alpha" needs "vidgen_secret"'],
        $webhook->('token with a secret', "signature token;\nstatus /s;\n"
            . 'secret env:TEST_SECRET;', 'secret env',
            '"secret" has no use with "signature token"'),
        $webhook->('token with parameters',
            "signature token header=X;\nstatus /s;", 'signature',
            'takes no parameters after "token"'),
    );
}


sub signature_cases {
    my $sign = sub {
        my ($signature, $message, $secret) = @_;
        return ["signature $signature", { webhook => "webhook {\n"
            . "signature $signature;\n" . ($secret // 'secret x;')
            . "\njob_id /id;\nstatus /s;\n}" },
            $message =~ /^secret/ ? 'secret ' : 'signature ', $message];
    };

    return (
        ['signature: twice', { webhook => "webhook {\nsignature github;\n"
            . "signature stripe;\nsecret x;\nstatus /s;\n}" },
            'signature stripe', 'is duplicate'],
        $sign->('md5 header=X', 'has an unknown algorithm or scheme "md5"'),
        $sign->('hmac-sha256', 'needs "header="'),
        $sign->('hmac-sha256 header=', 'has an empty "header="'),
        $sign->('hmac-sha256 "header=X Y"', 'invalid header name "X Y"'),
        $sign->('hmac-sha256 header=X colour=red',
            'has an invalid parameter "colour"'),
        $sign->('hmac-sha256 header=X list=ab',
            'neither "space" nor one character'),
        $sign->('hmac-sha256 header=X encoding=utf8',
            'has an unknown encoding "utf8"'),
        $sign->("hmac-sha256 header=X key=$password",
            'has in "key" none of raw, hex, base64'),
        $sign->('hmac-sha256 header=X tolerance=ever',
            'has an invalid tolerance "ever"'),
        $sign->('hmac-sha256 header=X timestamp=@',
            'has an empty element'),
        $sign->('hmac-sha256 header=X timestamp=@t',
            'needs "list=" for "timestamp=@"'),
        $sign->('hmac-sha256 header=X signed=$http_x_id',
            'must have "$vidgen_body" or "$vidgen_body_sha256"'),
        $sign->('hmac-sha256 header=X "signed=$vidgen_timestamp.$vidgen_body"',
            'needs "timestamp="'),
        $sign->('hmac-sha256 header=X jwks=https://example.com/keys',
            'takes "jwks=" with "ed25519" only'),
        $sign->('ed25519 header=X jwks=keys',
            'has an invalid URL "keys" in "jwks"'),
        $sign->('hmac-sha256 header=X key=hex',
            'secret 1 of provider "alpha" is not a key of the form'),
        $sign->('ed25519 header=X key=base64',
            'secret 1 of provider "alpha" is not a key of the form',
            "secret $password;"),
    );
}


sub pass_cases {
    my $pass = sub {
        my ($name, $message, @lines) = @_;
        return ["pass: $name", { pass => join "\n",
            'location = /_vidgen {', @lines, '}' }, qr/vidgen_generate;/,
            $message];
    };
    my @safe = ('internal;', 'proxy_pass $vidgen_url;',
        'proxy_ignore_client_abort on;',
        'proxy_ignore_headers X-Accel-Redirect;');
    my $missing = '"vidgen_generate" needs the internal location "/_vidgen"';
    my $unsafe = 'location "/_vidgen" of "vidgen_pass" is unsafe: ';

    return (
        ['pass: no such location', { pass => '' }, qr/vidgen_generate;/,
            $missing],
        ['pass: another name', { server => "vidgen_pass /other;\n"
            . $usual{server} }, qr/vidgen_generate;/,
            'needs the internal location "/other"'],
        ['pass: a prefix of it', { pass =>
            "location /_vid { @safe }" }, qr/vidgen_generate;/, $missing],
        ['pass: in another server only', { pass => '', http =>
            "server { listen 127.0.0.1:%%PORT%%; server_name b; "
            . "location = /_vidgen { @safe } }" }, qr/vidgen_generate;/,
            $missing],
        $pass->('not internal', $missing, grep { !/internal/ } @safe),
        $pass->('does not pass', $missing, 'internal;', 'return 200;'),
        $pass->('passes to a fixed host', $unsafe
            . 'it does not pass to "$vidgen_url"', 'internal;',
            'proxy_pass http://127.0.0.1:9;', @safe[2, 3]),
        $pass->('sends twice', "$unsafe\"proxy_next_upstream non_idempotent\"",
            @safe, 'proxy_next_upstream error non_idempotent;'),
        ['pass: sends twice, by inheritance', { http =>
            'proxy_next_upstream error non_idempotent;' },
            qr/vidgen_generate;/, "$unsafe\"proxy_next_upstream"],
        $pass->('ends with the client',
            "${unsafe}without \"proxy_ignore_client_abort on\"",
            @safe[0, 1, 3]),
        $pass->('obeys the provider',
            "${unsafe}without \"proxy_ignore_headers X-Accel-Redirect\"",
            @safe[0, 1, 2], 'proxy_ignore_headers X-Accel-Expires;'),
        $pass->('hides errors', "$unsafe\"proxy_intercept_errors on\"",
            @safe, 'proxy_intercept_errors on;'),
        ['pass: a host that nothing resolves', { base =>
            'base https://api.provider.test;' }, qr/vidgen_generate;/,
            'host "api.provider.test" of provider "alpha" cannot be resolved'],
        ["pass: another port than the upstream's", { base =>
            'base http://api.provider.test:81;', http =>
            'upstream api.provider.test { server 127.0.0.1:9; }' },
            qr/vidgen_generate;/,
            'host "api.provider.test:81" of provider "alpha" cannot be'],
    );
}


sub location_cases {
    my $generate = sub {
        my ($name, $lines, $at, $message) = @_;
        return ["location: $name", { generate =>
            "location = /generate-video {\n$lines\n}" }, $at, $message];
    };
    my $server = sub {
        my ($line, $message) = @_;
        my ($directive) = $line =~ /^(\w+)/;
        return ["server: $line", { server => "$usual{server}\n$line" },
            qr/^\s*\Q$line\E/, $message];
    };

    return (
        $generate->('unknown provider', 'vidgen_generate alpha beta;',
            'vidgen_generate alpha', 'unknown provider "beta"'),
        $generate->('provider twice', 'vidgen_generate alpha alpha;',
            'vidgen_generate alpha', 'duplicate provider "alpha"'),
        ['location: provider without submit', { submit => '', generate =>
            "location = /g {\nvidgen_generate alpha;\n}" },
            'vidgen_generate alpha', 'provider "alpha" has no "submit"'],
        ['location: no provider with submit', { submit => '' },
            qr/vidgen_generate;/, 'no provider has a "submit"'],
        ['location: webhook of an unknown provider', { hook =>
            "location = /video-webhook {\nvidgen_webhook beta;\n}" },
            'vidgen_webhook beta', 'unknown provider "beta"'],
        $generate->('twice', "vidgen_generate;\nvidgen_generate alpha;",
            'vidgen_generate alpha', 'is duplicate'),
        $generate->('two roles', "vidgen_generate;\nvidgen_webhook;",
            'vidgen_webhook;', 'conflicts with another vidgen directive'),
        ['location: generate in the server', { server =>
            "$usual{server}\nvidgen_generate;" }, 'vidgen_generate;',
            '"vidgen_generate" directive is not allowed here'],
        ['location: no vidgen_webhook_url', { server => '' },
            qr/vidgen_generate;/,
            'needs "vidgen_webhook_url" for provider "alpha"'],
        ['location: vidgen_webhook_url without a scheme', { server =>
            'vidgen_webhook_url example.com/video-webhook;' },
            'vidgen_webhook_url', 'must be a URL'],
        $server->('vidgen_webhook_url https://b.example.com/;',
            'is duplicate'),
        $server->('vidgen_next_provider sometimes;',
            'invalid value "sometimes"'),
        $server->('vidgen_attempt_timeout never;', 'invalid value'),
        $server->('vidgen_attempt_timeout 0;', 'must not be 0'),
        $server->('vidgen_next_provider_tries -1;', 'invalid number'),
        $server->('vidgen_next_provider_timeout x;', 'invalid value'),
        $server->('vidgen_retry attempts=0;',
            'invalid parameter "attempts=0"'),
        $server->('vidgen_retry attempts=101;',
            'invalid parameter "attempts=101"'),
        $server->('vidgen_retry backoff=0;', 'invalid parameter "backoff=0"'),
        $server->('vidgen_retry max=x;', 'invalid parameter "max=x"'),
        $server->('vidgen_retry tries=3;', 'invalid parameter "tries=3"'),
        ['server: two of vidgen_retry', { server => "$usual{server}\n"
            . "vidgen_retry attempts=2;\nvidgen_retry max=3s;" },
            'vidgen_retry max', 'is duplicate'],
    );
}
