#!/usr/bin/perl

# PostgreSQL is stopped: our locations answer 503 with Retry-After within the
# timeout, all others of the same worker as fast as ever; started again, all
# works without a reload.
#
# Not under valgrind: it measures time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use List::Util qw(max);
use Test::More tests => 28;
use Time::HiRes qw(time);

use VidgenTest::Books qw(balance customer wrong_books);
use VidgenTest::Edge;
use VidgenTest::Http qw(get post request send_request wait_answer);
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Edge->new(
    db       => $pg->edge_conninfo,
    database => 'timeout=5s',
    fal      => $provider,
    server   => 'location = /fast { return 200 "fast"; }')->start;

my $user = customer($pg, 10);
my %order = (user_id => $user, model_id => 'm', prompt => 'p');
my ($worker) = $nginx->workers;

sub generate { post($nginx->url('/generate-video'), \%order) }
sub median { (sort { $a <=> $b } @_)[@_ / 2] }

my $job = generate()->{json}{job_id};
my $id = $provider->requests->[0]{id};
ok($job && $id, 'a job before it');

my @webhook = ('POST', $nginx->url('/video-webhook'),
    $provider->signed_webhook(id => $id));

# it stops: whoever asks now waits for it until the timeout

$pg->stop;

my $began = time;
my @calls = map { send_request(@$_) } (
    ['POST', $nginx->url('/generate-video'), { 'Content-Type' =>
        'application/json' }, qq({"user_id":"$user","model_id":"m",)
        . '"prompt":"p"}'],
    [@webhook],
    ['GET', $nginx->url("/jobs/$job")]);

my @times;
while (time - $began < 1) {
    my $fast = get($nginx->url('/fast'));
    die "$fast->{status} $fast->{error}" if $fast->{body} ne 'fast';
    push @times, $fast->{time};
}

# a machine that stands still for a moment is not what is looked for
cmp_ok(max(@times), '<', 3, 'others do not wait for it');
cmp_ok(median(@times), '<', 0.25, '... and are as fast as ever');

my @answers = map { wait_answer($_) } @calls;
for (['generate', 0], ['webhook', 1], ['job', 2]) {
    my ($name, $i) = @$_;
    my $answer = $answers[$i];
    is($answer->{status}, 503, "$name: 503");
    is($answer->{headers}{'retry-after'}, 5, "$name: Retry-After");
    is($answer->{json}{code}, 'unavailable', "$name: its code");
    cmp_ok($answer->{time}, '<', 8, "$name: within the timeout");
}

# later nobody waits for it

wait_for { generate()->{time} < 0.2 };
my @late = (generate(), request(@webhook), get($nginx->url("/jobs/$job")));
is(join(' ', map { $_->{status} } @late), '503 503 503', 'then 503');
cmp_ok(max(map { $_->{time} } @late), '<', 3, 'at once');

is(@{ $provider->requests }, 1, 'the provider was not asked');

# it is back

$pg->start;

my $answer;
wait_for { ($answer = generate())->{status} == 200 };
is($answer->{status}, 200, 'back: generate');
$answer = request(@webhook);
is($answer->{status}, 200, 'back: webhook');
ok(!exists $answer->{headers}{'x-idempotent-replay'}, 'which is no replay');
is(get($nginx->url("/jobs/$job"))->{json}{status}, 'completed', 'back: job');
is(($nginx->workers)[0], $worker, 'by the same worker');
like($nginx->error_log, qr/\[error\].*vidgen: database is unreachable/,
    'the log says that it went');
like($nginx->error_log, qr/\[notice\].*vidgen: database is back/,
    'and that it is back');
is(() = $nginx->error_log =~ /database is unreachable/g, 1, 'once each');

is(balance($pg, $user), 8, 'two generations were paid');
is_deeply([wrong_books($pg)], [], 'the books are right');
