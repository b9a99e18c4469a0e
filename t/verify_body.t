#!/usr/bin/perl

# vidgen_verify: the body reaches the application byte by byte, however it
# came and wherever nginx put it, and verifies there.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(hmac_sha256_hex);
use Test::More tests => 49;

use VidgenTest::Http qw(http2 raw request);
use VidgenTest::Nginx;
use VidgenTest::Provider;

my $app = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    vars => { APP => $app->url },
    env  => { HOOK_SECRET => $app->secret },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_monitor  off;

    client_max_body_size 300k;
    lingering_timeout    2s;

    vidgen_provider p {
        webhook {
            signature  hmac-sha256 header=X-Signature;
            secret     env:HOOK_SECRET;
            job_id     /request_id;
            status     /status;
        }
    }

    proxy_http_version 1.1;

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_H2%% http2;

        location /memory/ {
            vidgen_verify            p;
            client_body_buffer_size  512k;
            proxy_pass               %%APP%%;
        }

        location /file/ {
            vidgen_verify            p;
            client_body_buffer_size  1k;
            proxy_pass               %%APP%%;
        }

        location /only-file/ {
            vidgen_verify             p;
            client_body_in_file_only  clean;
            proxy_pass                %%APP%%;
        }

        location /unbuffered/ {
            vidgen_verify            p;
            proxy_request_buffering  off;
            proxy_pass               %%APP%%;
        }

        location /mirrored/ {
            vidgen_verify  p;
            mirror         /copy;
            proxy_pass     %%APP%%;
        }

        location = /copy {
            internal;
            proxy_pass  %%APP%%;
        }
    }
}
EOT

my $noise = join '', map { chr rand 256 } 1 .. 997;
my $number = 0;

for my $where (qw(memory file only-file unbuffered)) {
    for my $size (1, 900, 3000, 100_000, 300 * 1024) {
        my ($headers, $body) = hook($size);
        intact("$where, $size bytes", request('POST',
            $nginx->url("/$where/"), $headers, $body), $body);
    }

    # in pieces

    for my $chunk (7, 1000) {
        my ($headers, $body) = hook(5000);
        my $chunks = join '', map { sprintf "%x\r\n%s\r\n", length, $_ }
            unpack "(a$chunk)*", $body;
        intact("$where, chunks of $chunk", request('POST',
            $nginx->url("/$where/"), { %$headers,
            'Transfer-Encoding' => 'chunked' }, "${chunks}0\r\n\r\n"), $body);
    }

    # HTTP/2

    for my $size (900, 100_000) {
        my ($headers, $body) = hook($size);
        intact("$where, HTTP/2, $size bytes", http2('POST',
            $nginx->url("/$where/", 'H2'), $headers, $body), $body);
    }
}

# one bit less

my ($headers, $body) = hook(100_000);
substr($body, 70_000, 1) ^= "\1";
for my $where (qw(memory file only-file unbuffered)) {
    is(request('POST', $nginx->url("/$where/"), $headers, $body)->{status},
        401, "a bit is wrong, $where");
}
($headers, $body) = hook(300 * 1024 + 1);
is(request('POST', $nginx->url('/memory/'), $headers, $body)->{status}, 413,
    'too large');

# a mirror gets what is genuine, and nothing else

$app->forget;
($headers, $body) = hook(2000);
is(request('POST', $nginx->url('/mirrored/'), {}, $body)->{status}, 401,
    'refused');
is(@{ $app->requests }, 0, 'and not mirrored');
is(request('POST', $nginx->url('/mirrored/'), $headers, $body)->{status}, 200,
    'passed on');
is_deeply([map { $_->{body} } @{ $app->wait_requests(2) }], [$body, $body],
    'and mirrored');

# a connection that goes on: bodies of refused requests are not requests

$app->forget;
my ($sign1, $body1) = hook(50);
my ($sign2, $body2) = hook(60);
my $inner = "POST /memory/ HTTP/1.1\r\nHost: a\r\nX-Signature: "
    . "$sign1->{'X-Signature'}\r\nContent-Length: 50\r\n\r\n$body1";
my $said = raw($nginx->url, join '',
    message('PUT', '/memory/', {}, $inner),
    message('POST', '/memory/', {}, $inner),
    message('POST', '/memory/', $sign2, $body2),
    message('POST', '/memory/', $sign2, $body2),
    message('GET', '/memory/', { Connection => 'close' }, $inner));
is_deeply([$said =~ m{HTTP/1\.1 (\d+)}g], [405, 401, 200, 200, 405],
    'requests one after the other');
is_deeply([map { $_->{body} } @{ $app->requests }], [$body2],
    'of which one is for the application');

# a body that does not come

my $early = raw($nginx->url, "POST /memory/ HTTP/1.1\r\nHost: a\r\n"
    . "Content-Length: 400000\r\nConnection: close\r\n\r\n");
like($early, qr{^HTTP/1\.1 413}, 'too large, said before the body is sent');

my @half = ("POST /memory/ HTTP/1.1\r\nHost: a\r\nContent-Length: 60\r\n"
    . "X-Signature: $sign2->{'X-Signature'}\r\n\r\n", substr $body2, 0, 30);
raw($nginx->url, join('', @half), half => 1);
is(@{ $app->requests }, 1, 'half a body is nothing');


# A body of that many bytes, which is not the same twice, and its signature.
sub hook {
    my ($size) = @_;
    my $body = $size == 1 ? chr(65 + $number++)
        : substr sprintf('%08d', $number++) . $noise x (1 + $size / 997), 0,
            $size;
    return ({ 'X-Signature' => hmac_sha256_hex($body, $app->secret) }, $body);
}

sub message {
    my ($method, $uri, $headers, $body) = @_;
    return join "\r\n", "$method $uri HTTP/1.1", 'Host: a',
        (map { "$_: $headers->{$_}" } sort keys %$headers),
        'Content-Length: ' . length($body), '', $body;
}

sub intact {
    my ($what, $answer, $body) = @_;
    my $got = $app->requests->[-1];
    $app->forget;
    ok($answer->{status} == 200 && $got->{body} eq $body, $what)
        or diag("status $answer->{status}, ", length($got->{body} // ''),
            ' bytes');
}
