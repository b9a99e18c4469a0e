#!/usr/bin/perl

# Not under valgrind: it measures time
#
# Providers that are probed together at the start are not for ever: each
# interval is a bit longer or shorter.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 3;

use VidgenTest::Nginx;
use VidgenTest::Provider;

my $n = 24;
my $provider = VidgenTest::Provider->new;
my $definitions = join '', map { "vidgen_provider p$_ {
        submit { url %%BASE%%/jobs; job_id /id; }
        probe  { url %%BASE%%/p$_; }
    }\n" } 1 .. $n;

my $nginx = VidgenTest::Nginx->new(
    vars => { BASE => $provider->url }, config => <<EOT)->start;
%%GLOBALS%%
events { }
http {
    %%HTTP%%
    vidgen_monitor interval=10s;
    $definitions
    server { listen 127.0.0.1:%%PORT%%; location / { vidgen_health; } }
}
EOT

my $requests = $provider->wait_requests(2 * $n, 60) // [];
my %times;
push @{ $times{ $_->{uri} } }, $_->{time} for @$requests;

my @twice = grep { @$_ == 2 } values %times;
is(scalar @twice, $n, 'each is probed, and again');

my @second = sort { $a <=> $b } map { $_->[1] } @twice;
cmp_ok($second[-1] - $second[0], '>=', 0.5, 'not all at the same time');

my ($gap) = sort { $a <=> $b } map { $_->[1] - $_->[0] } @twice;
cmp_ok($gap, '>=', 6, 'nor much too early');
