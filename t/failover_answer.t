#!/usr/bin/perl

# How a provider's answer may come: compressed, in chunks, long, too long, up
# to the end of the connection.  What cannot be read whole may have been
# billed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Compress::Gzip qw(gzip);
use Test::More;

use VidgenTest::Books qw(customer ledger wrong_books);
use VidgenTest::Http qw(post);
use VidgenTest::Jobs qw(attempts);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Sql;

my $limit = 64 * 1024;              # subrequest_output_buffer_size

# An answer that is $length bytes long.
sub long {
    my ($length, $id) = @_;
    my $text = qq({"request_id":"$id","detail":"");
    $text =~ s/"\z/'x' x ($length - 1 - length $text) . '"}'/e;
    return $text;
}

sub gzipped {
    my ($text) = @_;
    gzip(\$text => \my $bytes);
    return $bytes;
}

sub chunked {
    my ($text, $size) = @_;
    my $bytes = '';
    $bytes .= sprintf "%x;a=b\r\n%s\r\n", length, $_
        for unpack "(a$size)*", $text;
    return "${bytes}0\r\nX-Trailer: 1\r\n\r\n";
}

my %gzip = ('Content-Encoding' => 'gzip');
my %chunked = ('Transfer-Encoding' => 'chunked');
my $large = 'the answer is too large';
my $broken = 'the answer cannot be read';

# the answer, the status of ours, the attempt, its error
my @cases = (
    ['compressed', { headers => \%gzip, body => gzipped(long(100, 'a')) },
        200, 'accepted 200 -', '-'],
    ['in chunks', { headers => \%chunked, body => chunked(long(100, 'b'), 7)
        }, 200, 'accepted 200 -', '-'],
    ['compressed, in chunks', { headers => { %gzip, %chunked },
        body => chunked(gzipped(long(1000, 'c')), 10) }, 200,
        'accepted 200 -', '-'],
    ['long', { body => long(20_000, 'd') }, 200, 'accepted 200 -', '-'],
    ['as long as may be', { body => long($limit, 'e') }, 200,
        'accepted 200 -', '-'],
    ['the same in chunks', { headers => \%chunked,
        body => chunked(long($limit, 'f'), 5000) }, 200, 'accepted 200 -',
        '-'],
    ['the same compressed', { headers => \%gzip,
        body => gzipped(long($limit, 'g')) }, 200, 'accepted 200 -', '-'],

    ['too long', { body => long($limit + 1, 'h') }, 202,
        'unknown 200 invalid_answer', $large],
    ['much too long', { body => long(400_000, 'i') }, 202,
        'unknown 200 invalid_answer', $large],
    ['too long in chunks', { headers => \%chunked,
        body => chunked(long($limit + 1, 'j'), 5000) }, 202,
        'unknown 200 invalid_answer', $large],
    ['much too long in chunks', { headers => \%chunked,
        body => chunked(long(400_000, 'k'), 50_000) }, 202,
        'unknown 200 invalid_answer', $large],
    ['too long once it is not compressed', { headers => \%gzip,
        body => gzipped(long($limit + 1, 'l')) }, 202,
        'unknown 200 invalid_answer', $broken],
    ['a bomb', { headers => \%gzip, body => gzipped(long(2_000_000, 'm')) },
        202, 'unknown 200 invalid_answer', $broken],
    ['said to be compressed', { headers => \%gzip, body => long(100, 'n') },
        202, 'unknown 200 invalid_answer', $broken],
    ['compressed, and cut', { headers => \%gzip,
        body => substr gzipped(long(1000, 'o')), 0, 30 }, 202,
        'unknown 200 invalid_answer', $broken],
    ['chunks without an end', { headers => \%chunked,
        body => substr chunked(long(100, 'p'), 7), 0, 70 }, 202,
        'unknown 200 invalid_answer', '-'],

    ['a long refusal', { status => 422, body => long($limit + 1, 'q') }, 422,
        'refused 422 http_422', '-'],
    ['a long failure', { status => 500, body => long(400_000, 'r') }, 502,
        'refused 500 http_500', '-'],
);

plan tests => 4 * @cases + 2;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    vars   => { DB => $pg->edge_conninfo, PROVIDER => $provider->url },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_database "%%DB%%";

    vidgen_provider standin {
        base %%PROVIDER%%;
        submit {
            url     $vidgen_base/submit;
            job_id  /request_id;
        }
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        vidgen_retry                  attempts=1;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /generate { vidgen_generate; }
    }
}
EOT

my $db = VidgenTest::Sql->new($pg);

for my $case (@cases) {
    my ($name, $answers, $status, $attempt, $error) = @$case;

    # three failures in a row would be too many
    post($nginx->url('/generate'), { user_id => customer($db, 1),
        model_id => 'vision-1', prompt => 'p' });

    $provider->next(%$answers);
    my $answer = post($nginx->url('/generate'), { user_id =>
        customer($db, 1), model_id => 'vision-1', prompt => 'p' });
    my $job = $answer->{json}{job_id};

    is($answer->{status}, $status, "$name: the answer");
    is(attempts($db, $job), "standin $attempt", "$name: the attempt");
    is($db->value("SELECT coalesce(error, '-') FROM vidgen.attempts
        WHERE job_id = '$job'"), $error, "$name: its error");
    is(ledger($db, $job), $status < 300 ? 'hold 1' : 'hold 1, refund 1',
        "$name: the credits");
}

is(@{ $provider->requests }, 2 * @cases, 'one request each');
is_deeply([wrong_books($db)], [], 'the books are right');
