#!/usr/bin/perl

# A provider that nobody has heard of, described only below and with every knob
# that there is, works from end to end.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(hmac_sha512_base64 sha256_hex);
use Test::More tests => 49;

use VidgenTest::Books qw(ledger wrong_books);
use VidgenTest::Http qw(post request);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(root slurp wait_for);
use VidgenTest::Wire;

my $config = <<'EOT';
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_database  "%%DB%%";
    vidgen_secret    env:VIDGEN_SECRET;
    vidgen_monitor   poll=100ms fails=100;

    map $vidgen_aspect_ratio $acme_shape {
        16:9     wide;
        default  "other $vidgen_aspect_ratio";
    }

    vidgen_provider acme.video-2 {
        base     env:NOT_SET env:ACME_BASE_URL https://acme.example;
        api_key  file:%%PREFIX%%/acme.key;
        header   Authorization  "Bearer $vidgen_api_key";
        header   X-Client       acme-client;

        submit {
            url     $vidgen_base/v2/$vidgen_model_path/as/$vidgen_model;
            method  POST;
            query   hook  $vidgen_webhook_url;
            query   none  $http_x_none;
            query   more  "a b&c";
            header  Authorization    "Token $vidgen_api_key";
            header  Idempotency-Key  $vidgen_attempt_id;
            header  X-Trace          $http_x_trace;
            header  X-None           $http_x_none;

            body  /text              $vidgen_prompt;
            body  /settings/seconds  $vidgen_duration  integer;
            body  /settings/fps      23.976            number;
            body  /settings/shape    $acme_shape;
            body  /settings/loop     true              boolean;
            body  /settings/seed     $http_x_seed      integer  when_set;
            body  /settings/style    $http_x_style     json  when_set;
            body  /inputs/0/role     user;
            body  /inputs/0/parts/-  $vidgen_prompt;
            body  /inputs/0/parts/-  "${vidgen_duration}s";
            body  /inputs/1          "[1, {\"a\": null}]"  json;
            body  /a~1b~0c           $vidgen_user;
            body  /hook/escaped      $vidgen_webhook_url_escaped;

            idempotent;
            accept   /ok    true;
            accept   /data/ticket;
            refuse   /code  11 12;
            retry    /code  21 22;
            refused  502;
            unknown  500 4xx;
            job_id   /data/ticket /ticket;
            status   /data/state WAIT=queued RUN=processing;
            error    /problem/text /problem;
            keep     where  /links/poll;
            keep     shard  /shard;

            estimated_time  2m;
            max_jobs        3;
        }

        poll {
            url        $vidgen_kept_where;
            method     POST;
            header     X-Shard   $vidgen_kept_shard;
            query      shard     $vidgen_kept_shard;
            body       /ticket   $vidgen_provider_job_id;
            body       /attempt  $vidgen_attempt_id;
            body       /model    $vidgen_model  string;
            accept     /ok       true;
            refuse     /code     31;
            retry      /code     32;
            job_id     /data/ticket;
            status     /data/state
                       READY=completed BROKEN=failed RUN=processing *=queued;
            video_url  /file/link /data/link;
            error      /problem/text;
            keep       file  /data/file;
            then
               $vidgen_base/f/$vidgen_provider_job_id_path/$vidgen_kept_file
               failed=404 failed=5xx;
        }

        webhook {
            signature  hmac-sha256 header=X-Acme-Signature "list=;" prefix=v2=
                       encoding=base64 key=hex timestamp=@t tolerance=2m
                       event_id=X-Acme-Event algorithm=hmac-sha512
            "signed=$vidgen_timestamp\n$http_x_acme_event\n$vidgen_body_sha256";
            secret     env:ACME_SECRET file:%%PREFIX%%/old.secret;
            challenge  /hello;
            options    204;
            job_id     /ticket;
            attempt    /meta/attempt;
            status     /state READY=completed BROKEN=failed *=failed;
            video_url  /link /links/0;
            error      /problem/text /problem;
        }

        probe {
            url     $vidgen_base/v2/ping;
            method  HEAD;
            query   deep   no;
            header  X-Probe  yes;
            ok      204 404;
        }
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        vidgen_webhook_url            https://hooks.test/video-webhook;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /generate-video {
            vidgen_retry          attempts=2 backoff=10ms;
            vidgen_next_provider  http_5xx invalid_answer;
            vidgen_generate;
        }

        location = /video-webhook   { vidgen_webhook; }
        location = /provider-health { vidgen_health; }
    }
}
EOT

my @knobs = slurp(root() . '/src/http/ngx_http_vidgen_conf_provider.h')
    =~ /NGX_HTTP_VIDGEN_(?:KNOB|PART|PATH|LIST)\("(\w+)"/g;
cmp_ok(scalar @knobs, '>', 25, 'knobs');
is_deeply([grep { $config !~ /^ +$_\b/m } @knobs], [], 'each is used');

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;
$provider->on('^HEAD /v2/ping', status => 404, body => '');

my $nginx = VidgenTest::Nginx->new(
    vars   => { DB => $pg->edge_conninfo },
    env    => {
        ACME_BASE_URL => $provider->url . '/api/',
        ACME_SECRET   => unpack('H*', 'acme secret'),
        VIDGEN_SECRET => 'test-token-secret',
    },
    files  => {
        'acme.key'   => "acme-api-key\n",
        'old.secret' => unpack('H*', 'old secret') . "\n",
    },
    config => $config)->start;

my $model = 'acme/v 1?';
my $wire = VidgenTest::Wire->new(pg => $pg, nginx => $nginx,
    provider => $provider, models => [$model], submit => '^POST /api/v2/');
my %input = (model_id => $model, prompt => 'a "cat"', aspect_ratio => '4:3');

# submit

my $order = $wire->order(\%input, body => accepted('t/1', 'RUN'));
my $escaped = $order->{url} =~ s/$order->{attempt}/ATTEMPT/r
    =~ s/([^\w.-])/sprintf '%%%02X', ord $1/ger;
is($order->{sent} =~ s/\Q$escaped/ESCAPED/r, 'POST /api/v2/acme/v%201%3F/as/'
    . 'acme%2Fv%201%3F?hook=WEBHOOK&more=a%20b%26c '
    . '{"text":"a \"cat\"","settings":{"seconds":5,"fps":23.976,'
    . '"shape":"other 4:3","loop":true},"inputs":[{"role":"user","parts":'
    . '["a \"cat\"","5s"]},[1,{"a":null}]],"a/b~c":"' . $wire->{user}
    . '","hook":{"escaped":"ESCAPED"}}', 'what is asked');
is($wire->headers($order->{request}), "authorization: Token acme-api-key\n"
    . "idempotency-key: $order->{attempt}\nx-client: acme-client",
    'with these headers');
ok($wire->is_url($order, 'acme.video-2'), 'the webhook\'s URL');
is_deeply($order->{answer}{json}, { job_id => $order->{job},
    provider => 'acme.video-2', status => 'processing',
    estimated_time => 120 }, 'the client is told');
is($wire->job($order), 'processing t/1 - -', 'the job');

# webhook

is(request('OPTIONS', $nginx->url('/video-webhook?provider=acme.video-2'))
    ->{status}, 204, 'OPTIONS');
is(hook($order, '{"hello":1}')->{body}, '{"hello":1}', 'a challenge');
is(hook($order, '{"hello":1}', key => 'a secret')->{status}, 401,
    'by a stranger');
my $ready = '{"ticket":"t/1","state":"READY","links":["https://c.test/1"]}';
is(hook($order, $ready, event => 'e 1', sent => 'e 2')->{status}, 401,
    'another event\'s id');
is(hook($order, $ready, key => 'old secret')->{status}, 200, 'a result');
is($wire->job($order), 'completed t/1 https://c.test/1 -', 'the job');

$order = $wire->order(\%input, body => accepted('t/2', 'WAIT'));
is($wire->job($order), 'queued t/2 - -', 'another job');
my $plain = { %$order, url => '?provider=acme.video-2' };
is(hook($plain, '{"meta":{"attempt":"' . $order->{attempt} . '"},"state":'
    . '"BROKEN","problem":"no GPU"}')->{status}, 200,
    'a result that names the attempt alone');
is($wire->job($order), 'failed t/2 - no GPU', 'the job');

# what a client may add

$provider->next(body => accepted('t/0', 'WAIT'));
post($nginx->url('/generate-video'), { user_id => $wire->{user}, %input },
    { 'X-Seed' => '-7', 'X-Style' => '{"grain":[0.5,"x"]}',
        'X-None' => 'some', 'X-Trace' => 'tr-1' });
my ($last) = reverse $wire->submits;
like($last->{body}, qr/"loop":true,"seed":-7,"style":\{"grain":\[0.5,"x"\]\}/,
    'fields that are set');
like($last->{uri}, qr/&none=some&more=/, 'an argument that is set');
is("@{ $last->{headers} }{qw(x-none x-trace)}", 'some tr-1',
    'headers that are set');
is(post($nginx->url('/generate-video'), { user_id => $wire->{user}, %input },
    { 'X-Seed' => 'seven' })->{status}, 400, 'a value that is no integer');

# answers that accept nothing; one job is open

my $asked = $wire->submits;
$order = $wire->order(\%input, body =>
    '{"code":12,"problem":{"text":"unsafe"}}');
is("$order->{answer}{status} $order->{answer}{json}{error}", '422 unsafe',
    'refuse');
is($wire->submits, $asked + 1, 'is the end');

$asked = $wire->submits;
$order = $wire->order(\%input, body => '{"code":21}');
is($order->{answer}{status}, 502, 'retry');
is_deeply([keys_since($asked)], [2, 2], 'asks again, as another attempt');

$asked = $wire->submits;
$order = $wire->order(\%input, status => 502, body => '{}');
is_deeply([keys_since($asked)], [2, 2], 'refused: so does 502');
is(ledger($pg, $order->{job}), 'hold 3, refund 3', 'and it is paid back');

$asked = $wire->submits;
$order = $wire->order(\%input, status => 500, body => '{}');
is_deeply([$order->{answer}{status}, keys_since($asked)], [202, 2, 1],
    'unknown: 500 may have been taken, the same is asked again');

$asked = $wire->submits;
$provider->next(status => 200, body => '{"ok":false,"ticket":"t/3"}');
$order = $wire->order(\%input, body => accepted('t/3', 'WAIT'));
is_deeply([$order->{answer}{status}, keys_since($asked)], [200, 2, 1],
    'what is not accepted is asked again, as the same attempt');
is($wire->job($order), 'queued t/3 - -', 'and then accepted');

# max_jobs: three are open

$asked = $wire->submits;
is($wire->order(\%input, body => accepted('t/4', 'WAIT'))->{answer}{status},
    503, 'a fourth job');
is($wire->submits, $asked, 'is not asked for');

# poll

my $to = 'POST /api/jobs?of=t%2F3&shard=s%209';
my $poll = $wire->poll($order, $to, body => '{"ok":true,"data":{"state":"?"}}');
is($poll->{body}, '{"ticket":"t/3","attempt":"' . $order->{attempt}
    . '","model":"acme/v 1?"}', 'a poll');
is($wire->headers($poll), "authorization: Bearer acme-api-key\n"
    . "x-client: acme-client\nx-shard: s 9", 'its headers');
is($wire->job($order), 'queued t/3 - -', 'another word is queued');

for my $nothing ('{"ok":false,"data":{"state":"BROKEN"}}',
    '{"ok":true,"code":31,"data":{"state":"BROKEN"}}',
    '{"ok":true,"code":32,"data":{"state":"BROKEN"}}',
    '{"ok":true,"data":{"ticket":"t/9","state":"BROKEN"}}')
{
    ok($wire->poll($order, $to, body => $nothing), 'a poll of no use');
}
ok($wire->poll($order, $to, body => '{"ok":true,"data":{"state":"RUN"}}'),
    'one that is not');
is($wire->job_in($order, 'processing'), 'processing t/3 - -', 'processing');

$provider->on('^GET /api/f/t/3/a%20b$',
    body => '{"file":{"link":"https://c.test/3"}}');
ok($wire->poll($order, $to, body =>
    '{"ok":true,"data":{"state":"READY","file":"a b"}}'), 'the last one');
is($wire->job_in($order, 'completed'), 'completed t/3 https://c.test/3 -',
    'has a second step');

# a webhook whose word only "*" knows is confirmed by a poll

$order = $wire->order(\%input, body => accepted('t/5', 'WAIT'));
$provider->on('^GET /api/f/t/5/x$', status => 500,
    body => '{"problem":{"text":"lost"}}');
$provider->on('^POST /api/jobs\?of=t%2F5&', body =>
    '{"ok":true,"data":{"state":"READY","file":"x"}}');
is(hook($order, '{"ticket":"t/5","state":"HUH"}')->{status}, 200,
    'an unknown word');
is($wire->job_in($order, 'failed'), 'failed t/5 - lost',
    'the poll decides, a second step of 5xx is a failure');

# probe

my $probe = $wire->asked('HEAD /api/v2/ping?deep=no');
is($probe->{uri}, '/api/v2/ping?deep=no', 'a probe');
is($wire->headers($probe), "authorization: Bearer acme-api-key\n"
    . "x-client: acme-client\nx-probe: yes", 'its headers');
is($wire->health('acme.video-2'), 'healthy', 'its answer is healthy');

is($pg->value("SELECT count(*) FROM vidgen.attempts WHERE state = 'unknown'"),
    1, 'one attempt is unknown');
is_deeply([wrong_books($pg)], [], 'the books are right');


sub accepted {
    my ($ticket, $state) = @_;
    my $url = $provider->url . '/api/jobs?of=' . $ticket =~ s{/}{%2F}r;
    return qq({"ok":true,"shard":"s 9","links":{"poll":"$url"},"data":)
        . qq({"ticket":"$ticket","state":"$state"}});
}

# Options: key, event (its id as signed) and sent (as sent).
sub hook {
    my ($order, $body, %opt) = @_;

    my ($time, $event) = (time, $opt{event} // 'event 1');
    my $signature = hmac_sha512_base64("$time\n$event\n" . sha256_hex($body),
        $opt{key} // 'acme secret');
    return $wire->hook($order, { 'X-Acme-Event' => $opt{sent} // $event,
        'X-Acme-Signature' => "v1=x; t=$time; v2=$signature==" }, $body);
}

# How many submits there were after the first $n, and how many different keys
# they had.
sub keys_since {
    my ($n) = @_;
    my @new = ($wire->submits)[$n .. $wire->submits - 1];
    my %keys = map { ($_->{headers}{'idempotency-key'} => 1) } @new;
    return (scalar @new, scalar keys %keys);
}
