#!/usr/bin/perl

# Each provider gets its own headers and body, and nothing of the client's, of
# another provider's, or of an attempt before: over HTTP/1 and HTTP/2, however
# the client's body came, plain and over TLS, through a group of servers.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use Test::More;

use VidgenTest::Books qw(customer wrong_books);
use VidgenTest::Http qw(http2 request);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $plain = VidgenTest::Provider->new;
my $tls = VidgenTest::Provider->new(tls => 1);
my $group = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo, PLAIN => $plain->url,
        TLS => $tls->url, GROUP => $group->host, CA => $tls->ca },
    env  => { PLAIN_KEY => 'key-of-plain', TLS_KEY => 'key-of-tls' },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_database "%%DB%%";
    vidgen_monitor  off;

    vidgen_provider plain {
        base     %%PLAIN%%;
        api_key  env:PLAIN_KEY;
        header   Authorization "Bearer $vidgen_api_key";
        header   X-Attempt     $vidgen_attempt_id;
        submit {
            url     $vidgen_base/plain;
            header  X-Empty "";
            body    /prompt $vidgen_prompt;
            body    /plain  $vidgen_aspect_ratio;
            job_id  /request_id;
        }
    }
    vidgen_provider tls {
        base     %%TLS%%;
        api_key  env:TLS_KEY;
        submit {
            url     $vidgen_base/tls;
            header  X-Key $vidgen_api_key;
            body    /prompt $vidgen_prompt;
            body    /tls    $vidgen_duration integer;
            job_id  /request_id;
        }
    }
    vidgen_provider group {
        base http://group;
        submit {
            url     $vidgen_base/group;
            header  User-Agent "shop/1.0";
            body    /prompt $vidgen_prompt;
            job_id  /request_id;
        }
    }

    upstream group {
        server %%GROUP%%;
        keepalive 4;
    }

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_H2%% http2;

        vidgen_retry                  attempts=1;
        vidgen_prefer                 plain;
        proxy_set_header              X-Real-IP $remote_addr;
        proxy_ssl_trusted_certificate %%CA%%;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /generate-video { vidgen_generate plain tls group; }
    }
}
EOT

my $user = customer($pg, 100);
my $prompt = 'p' x 9000;            # more than one of nginx's buffers
my $body = JSON::PP->new->canonical->encode({ user_id => $user,
    model_id => 'vision-1', prompt => $prompt });

my %client = (
    'Accept'              => 'text/html',
    'Accept-Encoding'     => 'gzip, br',
    'Authorization'       => 'Bearer client',
    'Content-Type'        => 'text/plain; charset=latin1',
    'Cookie'              => 'session=client',
    'Forwarded'           => 'for=192.0.2.1',
    'Idempotency-Key'     => 'client',
    'Origin'              => 'http://client.test',
    'Traceparent'         => '00-client',
    'User-Agent'          => 'client',
    'X-Attempt'           => 'client',
    'X-Forwarded-For'     => '192.0.2.1',
    'X-Key'               => 'client',
    'X-Real-IP'           => '192.0.2.1',
);

sub chunked {
    my ($text) = @_;
    return join '', map({ sprintf "%x\r\n%s\r\n", length, $_ }
        unpack '(a1000)*', $text), "0\r\n\r\n";
}

my $uri = '/generate-video?prompt=client&user_id=client';
my @clients = (
    ['HTTP/1.1', sub { request('POST', $nginx->url($uri), {
        %client, 'Idempotency-Key' => 1 }, $body) }],
    ['HTTP/1.1, in chunks', sub { request('POST', $nginx->url($uri), {
        %client, 'Idempotency-Key' => 2, 'Transfer-Encoding' => 'chunked' },
        chunked($body)) }],
    ['HTTP/1.1, on demand', sub { request('POST', $nginx->url($uri), {
        %client, 'Idempotency-Key' => 3, 'Expect' => '100-continue' },
        $body) }],
    ['HTTP/1.1, to be upgraded', sub { request('POST', $nginx->url($uri), {
        %client, 'Idempotency-Key' => 4, 'Upgrade' => 'websocket',
        'TE' => 'trailers' }, $body) }],
    ['HTTP/2', sub { http2('POST', $nginx->url($uri, 'H2'), {
        %client, 'Idempotency-Key' => 5 }, $body) }],
);

plan tests => 8 * @clients + 3;

for my $client (@clients) {
    my ($name, $ask) = @$client;

    $nginx->restart;                # all are healthy again
    $_->forget for $plain, $tls, $group;
    $_->next(status => 503) for $plain, $tls;

    my $answer = $ask->();
    is("$answer->{status} $answer->{json}{provider}", '200 group',
        "$name: accepted by the third");

    my @got = map { $_->requests } $plain, $tls, $group;
    is_deeply([map { scalar @$_ } @got], [1, 1, 1], "$name: one request each");
    my %got = map { $_->{uri} => $_ } map { @$_ } @got;

    my ($first) = map { $_->[0] } @{ $pg->query("SELECT id
        FROM vidgen.attempts WHERE number = 1
        AND job_id = '$answer->{json}{job_id}'") };

    my %common = ('accept' => 'application/json', 'connection' => 'close',
        'content-type' => 'application/json');
    is_deeply($got{'/plain'}{headers}, { %common,
        'host' => $plain->host, 'user-agent' => 'ngx_http_vidgen_module',
        'authorization' => 'Bearer key-of-plain', 'x-attempt' => $first,
        'content-length' => length $got{'/plain'}{body},
    }, "$name: the headers of the first");
    is_deeply($got{'/tls'}{headers}, { %common,
        'host' => $tls->host, 'user-agent' => 'ngx_http_vidgen_module',
        'x-key' => 'key-of-tls',
        'content-length' => length $got{'/tls'}{body},
    }, "$name: of the second");
    is_deeply($got{'/group'}{headers}, { %common,
        'host' => 'group', 'user-agent' => 'shop/1.0',
        'content-length' => length $got{'/group'}{body},
    }, "$name: of the third");

    ok($got{'/plain'}{body} eq qq({"prompt":"$prompt","plain":"16:9"}),
        "$name: the body of the first");
    ok($got{'/tls'}{body} eq qq({"prompt":"$prompt","tls":5}),
        "$name: of the second");
    ok($got{'/group'}{body} eq qq({"prompt":"$prompt"}),
        "$name: of the third");
}

is($pg->value("SELECT count(*) FROM vidgen.attempts WHERE state = 'refused'
    AND reason = 'http_503'"), 2 * @clients, 'the attempts before it');
is($pg->value('SELECT count(*) FROM video_jobs'), scalar @clients,
    'a job each');
is_deeply([wrong_books($pg)], [], 'the books are right');
