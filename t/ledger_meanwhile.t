#!/usr/bin/perl

# A provider's webhook comes while its generation is still being handled: once
# it is known that a provider has the job, that is the answer, and no further
# provider is asked.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use VidgenTest::Books qw(balance customer ledger wrong_books);
use VidgenTest::Edge;
use VidgenTest::Http qw(post send_request wait_answer);
use VidgenTest::Jobs qw(attempts last_job);
use VidgenTest::Postgres;
use VidgenTest::Provider;

# What a answers (at once where it is not the last that is asked) and then b,
# if it is asked; the provider whose webhook comes before the last one has
# answered, and its status; then the answer: status, status of the job or code,
# provider; and the attempts.
my $none = { status => 504 };
my $busy = { status => 503 };
my @cases = (
    [$none, undef, 'a processing', '200 processing a', 'a accepted'],
    [$none, undef, 'a queued', '200 queued a', 'a accepted'],
    [$none, undef, 'a completed', '200 completed a', 'a completed'],
    [$none, undef, 'a failed', '502 provider_failed -', 'a failed'],
    [$busy, undef, 'a processing', '200 processing a', 'a accepted'],
    [{ body => {} }, undef, 'a processing', '200 processing a',
        'a accepted'],
    [{ status => 422 }, undef, 'a completed', '200 completed a',
        'a completed'],

    [$none, $busy, 'a processing', '200 processing a',
        'a accepted, b refused'],
    [$none, $busy, 'a completed', '200 completed a',
        'a completed, b refused'],
    [$none, $busy, 'a failed', '502 provider_failed -', 'a failed, b refused'],
    [$none, { status => 422 }, 'a processing', '200 processing a',
        'a accepted, b refused'],
    [$none, $none, 'a processing', '200 processing a',
        'a accepted, b unknown'],
    [$none, $none, 'b processing', '200 processing b',
        'a unknown, b accepted'],
    [$none, $none, 'a failed', '202 processing b', 'a failed, b unknown'],
    [$none, {}, 'a processing', '200 processing b',
        'a accepted, b accepted'],
    [$none, {}, 'a completed', '200 completed b', 'a completed, b accepted'],
    [$none, {}, 'a failed', '200 queued b', 'a failed, b accepted'],
);

plan tests => 7 * @cases + 1;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my %standin = map { $_ => VidgenTest::Provider->new(prefix => $_) } qw(a b);

my $nginx = VidgenTest::Edge->new(
    db       => $pg->edge_conninfo,
    workers  => 2,
    standins => \%standin,
    http     => 'vidgen_monitor fails=100;',
    server   => <<'EOT')->start;
        vidgen_retry attempts=1;

        location = /a  { vidgen_generate a; }
        location = /ab { vidgen_generate a b; vidgen_prefer a; }
EOT

my $user = customer($pg, 100);
my $balance = 100;

for my $i (0 .. $#cases) {
    my ($a, $b, $webhook, $outcome, $attempts) = @{ $cases[$i] };
    my ($by, $said) = split / /, $webhook;
    my $name = 'a: ' . ($a->{status} // 200)
        . ($b ? ', b: ' . ($b->{status} // 200) : '') . ", $webhook";
    my ($status, $word, $provider) = split / /, $outcome;

    $_->forget for values %standin;
    $standin{a}->next(%$a, $b ? () : (wait => 1));
    $standin{b}->next(%$b, wait => 1) if $b;

    my @request = ('POST', $nginx->url($b ? '/ab' : '/a'),
        { 'Idempotency-Key' => "key $i" },
        qq({"user_id":"$user","model_id":"m","prompt":"p"}));
    my $call = send_request(@request);
    my $last = $standin{ $b ? 'b' : 'a' };
    $last->wait_requests(1) or die 'no request';

    my $got = $standin{$by}->requests->[0];
    my ($hook) = $got->{body} =~ /"webhook_url":"([^"]+)"/;
    $standin{$by}->send_webhook($hook, id => "$by-$i", status => $said);
    my $sent = $standin{$by}->wait_webhooks(1) or die 'no answer';
    my $job = last_job($pg);
    is($sent->[0]{answer}, qq({"success":true,"job_id":"$job"}),
        "$name: the webhook is applied");

    $last->release;
    my $answer = wait_answer($call);
    is(join(' ', $answer->{status}, $answer->{json}{status}
        // $answer->{json}{code}, $answer->{json}{provider} // '-'),
        $outcome, "$name: the answer");
    is($answer->{json}{job_id}, $job, "$name: of that job");

    is(attempts($pg, $job) =~ s/ (?:\d+|-) \S+(?=,|$)//gr, $attempts,
        "$name: the attempts");
    is(@{ $standin{b}->requests }, $b ? 1 : 0, "$name: who was asked");

    $balance-- if $status < 300;
    is(ledger($pg, $job) . ' ' . balance($pg, $user),
        ($status < 300 ? 'hold 1' : 'hold 1, refund 1') . " $balance",
        "$name: the credits");

    my $again = post(@request[1, 3, 2]);
    delete $_->{json}{error} for $again, $answer;
    is_deeply([$again->{status}, $again->{json}], [$status, $answer->{json}],
        "$name: its key knows it");
}

is_deeply([wrong_books($pg)], [], 'the books are right');
