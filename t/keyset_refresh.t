#!/usr/bin/perl

# Not under valgrind: it measures time
#
# A key set is fetched again before it expires, and one that may not be kept
# not all the time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 4;

use VidgenTest::Ed25519;
use VidgenTest::Nginx;
use VidgenTest::Provider;

my $provider = VidgenTest::Provider->new;
my %kept = (short => 'public, max-age=3', never => 'no-cache, max-age=0',
    long => 'max-age=86400', odd => 'max-age=9223372036854775807');

for my $name (keys %kept) {
    $provider->on(qr{GET /$name},
        headers => { 'Cache-Control' => $kept{$name} },
        body => { keys => [VidgenTest::Ed25519->new->jwk] });
}

my $definitions = join '', map { "vidgen_provider $_ {
        webhook { signature ed25519 header=X jwks=%%BASE%%/$_;
                  job_id /id; status /status; }
    }\n" } sort keys %kept;

my $nginx = VidgenTest::Nginx->new(
    vars => { BASE => $provider->url }, config => <<EOT)->start;
%%GLOBALS%%
events { }
http {
    %%HTTP%%
    vidgen_monitor interval=1h;
    $definitions
    server { listen 127.0.0.1:%%PORT%%; location / { vidgen_health; } }
}
EOT

# three more of one, and the first of each other

my $requests = $provider->wait_requests(4 + 3, 60) // [];
my %asked;
push @{ $asked{ $_->{uri} } }, $_->{time} for @$requests;
my $times = $asked{'/short'} // [];

cmp_ok(scalar @$times, '>=', 4, 'again and again');
my @early = grep { $times->[$_] - $times->[$_ - 1] < 1 } 1 .. $#$times;
is(scalar @early, 0, 'not at once');
is(join(' ', map { scalar @{ $asked{"/$_"} // [] } } qw(never long odd)),
    '1 1 1', 'what may be kept longer, or not at all, is left alone');
unlike($nginx->error_log, qr/could not be fetched/, 'none failed');
