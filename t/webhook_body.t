#!/usr/bin/perl

# A webhook's body is verified and read wherever it lies: in memory, in several
# buffers, in a temporary file; and whatever protocol brings it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use VidgenTest::Books qw(customer everything wrong_books);
use VidgenTest::Http qw(http2 post raw request);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Stream;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo },
    env  => {
        FAL_BASE_URL       => $provider->url,
        FAL_API_KEY        => 'test-api-key',
        FAL_WEBHOOK_SECRET => $provider->secret,
    },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_database "%%DB%%" timeout=1m;
    vidgen_monitor  off;
    include         %%PROVIDERS%%/fal.conf;

    client_max_body_size  2m;

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_H2%% http2;

        vidgen_webhook_url            http://127.0.0.1:%%PORT%%/memory;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /generate-video { vidgen_generate; }

        location = /memory {
            vidgen_webhook;
            client_body_buffer_size 2m;
        }

        location = /small {
            vidgen_webhook;
            client_body_buffer_size 1k;
        }

        location = /file {
            vidgen_webhook;
            client_body_in_file_only clean;
        }
    }
}
EOT

my $user = customer($pg, 1000);

# bodies of these sizes, of which the last bytes matter
my @sizes = (0, 900, 4_000, 9_000, 70_000, 1_000_000);
my @places = qw(memory small file);
my @ways = (
    ['a length',            \&with_length],
    ['chunks of 1000',      sub { chunked(1000, @_) }],
    ['one chunk',           sub { chunked(2_000_000, @_) }],
    ['HTTP/2',              \&over_http2],
);

plan tests => @sizes * @places * @ways + 12;


# A body of at least that size, as text with its end last, and its headers.
sub webhook {
    my ($size) = @_;
    my $answer = post($nginx->url('/generate-video'), { user_id => $user,
        model_id => 'vision-1', prompt => 'p' });
    my $id = $provider->requests->[-1]{id};
    my $body = '{"x":"' . 'x' x $size . qq(","request_id":"$id",)
        . '"status":"completed","output":{"video_url":"https://x/v"}}';
    my ($headers) = $provider->signed_webhook(body => $body);
    return ($answer->{json}{job_id}, $headers, $body);
}

sub with_length {
    my ($uri, $headers, $body) = @_;
    return request('POST', $nginx->url($uri), $headers, $body);
}

sub over_http2 {
    my ($uri, $headers, $body) = @_;
    return http2('POST', $nginx->url($uri, 'H2'), $headers, $body);
}

sub chunked {
    my ($size, $uri, $headers, $body) = @_;
    return request('POST', $nginx->url($uri),
        { %$headers, 'Transfer-Encoding' => 'chunked' },
        join '', map { sprintf "%x\r\n%s\r\n", length, $_ }
            unpack("(a$size)*", $body), '');
}


for my $place (@places) {
    for my $way (@ways) {
        my ($what, $send) = @$way;
        for my $size (@sizes) {
            my ($job, @webhook) = webhook($size);

            # changed in its last byte it is refused, as it is it counts
            my ($headers, $body) = @webhook;
            my $forged = $send->("/$place", $headers, $body =~ s/\}$/ /r);
            my $answer = $send->("/$place", @webhook);
            my $again = $send->("/$place", @webhook);

            is_deeply([$forged->{status}, $answer->{status}, $answer->{body},
                    $answer->{headers}{'x-idempotent-replay'},
                    $again->{status}, $again->{body},
                    $again->{headers}{'x-idempotent-replay'}],
                [401, 200, qq({"success":true,"job_id":"$job"}), undef,
                    200, $answer->{body}, 'true'],
                "$size bytes, $what, $place");
        }
    }
}

# the body comes with the head, behind it, and bit by bit

my $loop = VidgenTest::Loop->new;
for my $pieces ([1], [1, 1], [100, 200], [(1) x 40]) {
    my ($job, $headers, $body) = webhook(0);
    my $stream = VidgenTest::Stream->connect($loop,
        '127.0.0.1:' . $nginx->port);
    my $head = "POST /small HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        . "X-Signature: $headers->{'X-Signature'}\r\nContent-Length: "
        . length($body) . "\r\n\r\n";

    my $sent = '';
    for my $piece (@$pieces) {
        $sent .= substr $body, 0, $piece, '';
        $stream->send($head . $sent);
        ($head, $sent) = ('', '');
        $loop->run(sub { $stream->{out} eq '' }, 10);
    }
    $stream->send($body);
    $loop->run(sub { $stream->{ended} }, 10);
    like($stream->{in}, qr/^HTTP\/1\.1 200 .*"job_id":"$job"\}$/s,
        'in ' . (@$pieces + 1) . ' pieces');
}

# several webhooks on one connection, one behind the other

my @all = map { [webhook(20 * $_)] } 1 .. 5;
my $bytes = join '', map { "POST /memory HTTP/1.1\r\nHost: a\r\n"
    . "X-Signature: $_->[1]{'X-Signature'}\r\nContent-Length: "
    . length($_->[2]) . "\r\n\r\n$_->[2]" } @all, $all[0];
$bytes =~ s/.*\KHost: a/Host: a\r\nConnection: close/s;
my $answers = raw($nginx->url, $bytes);
is_deeply([$answers =~ /HTTP\/1\.1 (\d+)/g], [(200) x 6],
    'six on one connection');
is_deeply([$answers =~ /"job_id":"([^"]+)"/g],
    [map { $_->[0] } @all, $all[0]], 'each is answered for its own job');
is(() = $answers =~ /^X-Idempotent-Replay: true/mg, 1, 'one is a replay');

# a refused one does not take its successor along

my ($job, $headers, $body) = webhook(10);
$bytes = "POST /memory HTTP/1.1\r\nHost: a\r\nX-Signature: $_\r\n"
    . "Content-Length: " . length($body) . "\r\n" for $headers->{'X-Signature'};
$answers = raw($nginx->url, ($bytes =~ s/X-Signature: ../X-Signature: 00/r)
    . "\r\n$body" . "$bytes" . "Connection: close\r\n\r\n$body");
is_deeply([$answers =~ /HTTP\/1\.1 (\d+)/g], [401, 200],
    'a forged one, then the right one');

# Expect, and a body that never comes

is(request('POST', $nginx->url('/memory'), { %$headers,
    'Expect' => '100-continue' }, $body)->{headers}{'x-idempotent-replay'},
    'true', 'Expect: 100-continue');

my $before = everything($pg);
$answers = raw($nginx->url, "POST /memory HTTP/1.1\r\nHost: a\r\n"
    . "X-Signature: $headers->{'X-Signature'}\r\nContent-Length: "
    . (length($body) + 1) . "\r\n\r\n$body", half => 1);
unlike($answers, qr/^HTTP\/1\.1 2/, 'one that is cut off is no webhook');
is(everything($pg), $before, 'nothing changes');

is_deeply([wrong_books($pg)], [], 'the books are right');
