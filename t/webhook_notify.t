#!/usr/bin/perl

# notify=on: a job that a webhook has changed is told on the channel
# vidgen_job, once, after its commit; repeats and forgeries are not.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 7;

use VidgenTest::Books qw(customer);
use VidgenTest::Edge;
use VidgenTest::Http qw(post);
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Session;
use VidgenTest::Util qw(wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Edge->new(
    db       => $pg->edge_conninfo,
    database => 'timeout=1m notify=on',
    fal      => $provider)->start;

my $user = customer($pg, 10);
my $listener = VidgenTest::Session->new($pg);
$listener->run('LISTEN vidgen_job');

my %jobs = map { order() } 1 .. 3;
my @jobs = sort keys %jobs;

is_deeply([heard()], [], 'nothing is said of a generation');

my ($headers, $body) = $provider->signed_webhook(id => $jobs{ $jobs[0] });
my $url = $nginx->url('/video-webhook');

is(post($url, $body, { %$headers, 'X-Signature' => 'f' x 64 })->{status}, 401,
    'a forgery');
is(post($url, $body, $headers)->{status}, 200, 'a webhook');
is_deeply([heard(1)], [$jobs[0]], 'is told');

post($url, $body, $headers) for 1 .. 3;
is_deeply([heard()], [], 'its repeats are not');

for my $job (@jobs[1, 2]) {
    my ($headers, $body) = $provider->signed_webhook(id => $jobs{$job},
        status => 'failed');
    post($url, $body, $headers);
}
is_deeply([sort { $a cmp $b } heard(2)], [@jobs[1, 2]], 'two more are');
is_deeply([heard()], [], 'once');


# A new job, and its provider's id.
sub order {
    my $answer = post($nginx->url('/generate-video'), { user_id => $user,
        model_id => 'm', prompt => 'p' });
    return ($answer->{json}{job_id}, $provider->requests->[-1]{id});
}

# The payloads that came since it was asked last; waits for $n of them.
sub heard {
    my ($n) = @_;
    my @heard;
    wait_for {
        push @heard, $listener->run('SELECT 1')
            =~ /notification "vidgen_job" with payload "([^"]+)"/g;
        @heard >= ($n // 0);
    };
    return @heard;
}
